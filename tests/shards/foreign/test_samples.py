"""A tar's members by our index are those that Python's tarfile finds."""

import tarfile

from shards.foreign.samples import samples_of
from shards.index import Dataset
from shards.schema import CLIP_MEMBERS, FLOW_MEMBERS


def test_samples_are_the_members_of_the_tar_and_lie_one_after_another(dataset_url: str):
    dataset = Dataset(dataset_url)
    for folder, layer, parts in (
        ("clips", None, CLIP_MEMBERS),
        ("flow/toy-0123456789ab", dataset.layer(), FLOW_MEMBERS),
    ):
        for shard in dataset.shards:
            samples = samples_of(dataset.rows(shard, layer=layer), parts)
            with tarfile.open(f"{dataset_url}/{folder}/{shard}.tar") as tar:
                members, end = tar.getmembers(), tar.offset
            places = [(f"{s.key}.{m.part}", m.offset, m.size) for s in samples for m in s.members]
            assert places == [(m.name, m.offset_data, m.size) for m in members]
            starts = [m.offset for m in members[:: len(parts)]]
            assert [s.start for s in samples] == starts
            assert [s.end for s in samples] == [*starts[1:], end]
