"""Stored fields are copied where they are sound and of the same frames, else they are a miss."""

import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flow_cache import FlowSpec, Pair
from flow_cache.coding import encode_field, read_header
from flow_cache.occlusion import DEFAULT_CRITERION
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.copying import StoredFields, enter, find_stored, frames_identity, register
from flow_cache.reuse.entries import StoredShard
from shards.manifest import Manifest, sha256_of, write_manifest
from shards.schema import Clip, Span
from shards.store import Store, UsageError
from shards.writer import write_table

SPEC = FlowSpec(
    estimator="toy",
    revision="1",
    params={},
    weights_sha256=None,
    size=(4, 6),
    occlusion=DEFAULT_CRITERION,
    levels=(1,),
    max_error_px=1 / 32,
    frames_from="source",
)
CLIP = Clip(
    key="a",
    path="/a.mp4",
    source_sha256="ab" * 32,
    numbers=(0, 1, 2),
    pts=(0, 40, 80),
    time_base=Fraction(1, 1000),
    fps=Fraction(25),
    size=(4, 6),
    shot=0,
    repeated=0,
    decode_errors=0,
    seekable=True,
)
PAIRS: list[Pair] = [(0, 1), (1, 2)]


def field_of(pair: Pair, spec: FlowSpec = SPEC) -> bytes:
    flow = np.full((2, *spec.size), 1.0 + pair[0], np.float32)
    return encode_field(
        flow,
        np.ones(spec.size, bool),
        pair=pair,
        max_error_px=spec.max_error_px,
        spec_digest=spec.field_digest,
    )


@pytest.fixture
def stored(tmp_path: Path) -> StoredShard:
    return store_fields(tmp_path, [field_of(pair) for pair in PAIRS])


def store_fields(folder: Path, blobs: list[bytes]) -> StoredShard:
    """One clip whose two fields lie one after the other."""
    store = Store(folder / "earlier")
    table = pa.table(
        {
            "source_sha256": [CLIP.source_sha256],
            "pts": [list(CLIP.pts)],
            "pair_source": [[a for a, _ in PAIRS]],
            "pair_target": [[b for _, b in PAIRS]],
            "field_offset": [[0, len(blobs[0])]],
            "field_size": [[len(blob) for blob in blobs]],
            "field_crc32": [[zlib.crc32(blob) for blob in blobs]],
        }
    )
    write_table(store, "x.parquet", table)
    store.write("x.tar", b"".join(blobs))
    return StoredShard(
        dataset=store, stem="x", sha256=sha256_of(store.read("x.parquet")), rows=(0,)
    )


def test_fields_are_found_by_their_frames_and_get_the_slots_of_the_new_clip(stored: StoredShard):
    fields = StoredFields(SPEC, False, [stored])
    copies = fields.take(CLIP.source_sha256, (-40, 0, 40, 80), [(0, 1), (1, 2), (2, 3)])
    assert list(copies.fields) == [(1, 2), (2, 3)]
    assert [read_header(blob).pair for blob in copies.fields.values()] == [(1, 2), (2, 3)]
    assert copies.origins == {stored.dataset.url: 2}
    assert not copies.warnings | fields.warnings


def test_a_whole_clip_s_fields_serve_the_same_clip_only(stored: StoredShard):
    fields = StoredFields(SPEC, True, [stored])
    assert fields.take(CLIP.source_sha256, CLIP.pts, PAIRS).fields.keys() == set(PAIRS)
    assert not fields.take(CLIP.source_sha256, (0, 40), [(0, 1)]).fields


def test_a_damaged_field_is_a_miss_and_a_warning(stored: StoredShard):
    data = bytearray(stored.dataset.read("x.tar"))
    data[-1] ^= 1
    stored.dataset.write("x.tar", bytes(data))
    copies = StoredFields(SPEC, False, [stored]).take(CLIP.source_sha256, CLIP.pts, PAIRS)
    assert list(copies.fields) == [(0, 1)]
    assert [warning.partition(" is ")[2][:7] for warning in copies.warnings] == ["damaged"]


def test_a_field_of_another_recipe_is_a_miss(stored: StoredShard):
    other = replace(SPEC, max_error_px=1 / 8)
    copies = StoredFields(other, False, [stored]).take(CLIP.source_sha256, CLIP.pts, PAIRS)
    assert not copies.fields
    assert copies.warnings


@pytest.mark.parametrize("lost", ["x.parquet", "x.tar"])
def test_a_lost_file_is_a_miss_and_a_warning(stored: StoredShard, lost: str):
    stored.dataset.delete(lost)
    fields = StoredFields(SPEC, False, [stored])
    copies = fields.take(CLIP.source_sha256, CLIP.pts, PAIRS)
    assert not copies.fields
    assert len(fields.warnings | copies.warnings) == 1


def test_an_index_that_is_not_the_one_that_was_entered_is_not_read(stored: StoredShard):
    fields = StoredFields(SPEC, False, [replace(stored, sha256="0" * 64)])
    assert "is not the file that was written" in "".join(fields.warnings)
    assert not fields.take(CLIP.source_sha256, CLIP.pts, PAIRS).fields


def test_a_fault_of_ours_is_not_taken_for_a_miss(stored: StoredShard, monkeypatch):
    def broken(*_: object) -> None:
        raise AttributeError("a mistake in the code")

    monkeypatch.setattr("flow_cache.reuse.copying.read_index", broken)
    with pytest.raises(AttributeError):
        StoredFields(SPEC, False, [stored])


def test_frames_of_stored_clips_are_told_by_the_bytes_of_the_clip():
    video = Span(offset=512, size=1000, crc32=7)
    from_clips = replace(SPEC, frames_from="clip")
    assert frames_identity(SPEC, CLIP, video) == (CLIP.source_sha256, CLIP.pts)
    digest, slots = frames_identity(from_clips, CLIP, video)
    assert slots == (0, 1, 2)
    moved = frames_identity(from_clips, CLIP, replace(video, offset=9999))
    assert moved == (digest, slots)
    assert frames_identity(from_clips, CLIP, replace(video, crc32=8))[0] != digest


def test_only_a_finished_dataset_of_its_own_can_be_entered(tmp_path: Path):
    catalog, store = Catalog(Store(tmp_path / "catalog")), Store(tmp_path / "d")
    with pytest.raises(UsageError, match="holds no dataset"):
        enter(catalog, store)
    for manifest, words in (
        (Manifest(state="building", config={}), "has not finished"),
        (Manifest(state="complete", config={}, merged=("/a",)), "owns no flow"),
    ):
        write_manifest(store, manifest)
        with pytest.raises(UsageError, match=words):
            enter(catalog, store)


def test_without_a_catalog_nothing_is_looked_for(tmp_path: Path):
    assert find_stored(None, SPEC, [pa.table({}), pa.table({})]) == ([(), ()], frozenset())
    assert register(None, Store(tmp_path)) == frozenset()


def with_body(blob: bytes, body: bytes) -> bytes:
    """A field with a good header and checksum, and other bytes where its parts are."""
    head = blob[8:96]
    return b"FXF2" + zlib.crc32(head + body).to_bytes(4, "little") + head + body


def test_a_field_whose_body_does_not_decode_is_a_miss_and_a_warning(tmp_path: Path):
    good = field_of(PAIRS[0])
    broken = with_body(field_of(PAIRS[1]), bytes(len(good) - 96))
    assert read_header(broken).size == SPEC.size
    copies = StoredFields(SPEC, False, [store_fields(tmp_path, [good, broken])]).take(
        CLIP.source_sha256, CLIP.pts, PAIRS
    )
    assert list(copies.fields) == [(0, 1)]
    assert "is damaged" in "".join(copies.warnings)


def test_a_field_of_another_bound_than_its_recipe_s_is_a_miss(tmp_path: Path):
    coarse = encode_field(
        np.ones((2, *SPEC.size), np.float32),
        np.ones(SPEC.size, bool),
        pair=(0, 1),
        max_error_px=1 / 4,
        spec_digest=SPEC.field_digest,
    )
    shard = store_fields(tmp_path, [coarse, field_of(PAIRS[1])])
    copies = StoredFields(SPEC, False, [shard]).take(CLIP.source_sha256, CLIP.pts, PAIRS)
    assert list(copies.fields) == [(1, 2)]
