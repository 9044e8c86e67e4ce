"""Plans grow: what is settled keeps its place; all else is a function of the inputs alone."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.building.shard import committed_rows
from pipeline.planning.clip_plan import by_shard
from pipeline.planning.clip_table import users_columns
from pipeline.planning.plan_dataset import (
    check_new_columns,
    plan_anew,
    plan_on,
)
from pipeline.planning.plan_files import (
    Plan,
    plan_files,
    read_files,
    stored_shards,
    write_plan,
)
from pipeline.planning.scan import Scan
from pipeline.planning.scanned_inputs import ScannedInputs, outdated
from pipeline.planning.scans import Scans, scanned
from pipeline.records import Reject, Source
from pipeline.source.files import FileState
from shards import Manifest, Shard, Store, UsageError, shard_tar, write_table
from shards.schema import Scalar, shard_name

ScanOf = Callable[..., Scan]
EMPTY = Manifest(state="building", config={})
PER_SHARD = 2


class World:
    """A dataset, and inputs that change."""

    def __init__(self, folder: Path, scan_of: ScanOf) -> None:
        self.store, self.scan_of = Store(folder), scan_of
        self.manifest, self._states = EMPTY, 0

    def inputs(self, *scans: Scan, **told: tuple[str, dict[str, Scalar]]) -> ScannedInputs:
        """Files as they are now; `told` gives captions and columns by name."""
        found = Scans(self.store, "settings")
        sources, files = [], []
        for scan in scans:
            path = scan.path if isinstance(scan, Reject) else scan[0].path
            self._states += 1
            found.add(scanned(scan, FileState(size=1, version=str(self._states))))
            caption, columns = told.get(Path(path).stem, (None, {}))
            sources.append(Source(path=path, caption=caption, columns=columns))
            files.append((path, f"1 bytes, {self._states}"))
        found.flush()
        return ScannedInputs(sources=sources, scans=found, places=found.places(files), rejects=[])

    def plan(self, inputs: ScannedInputs) -> Plan:
        made = plan_on(inputs, self.store, self.manifest, PER_SHARD)
        made = replace(made, tables=list(made.tables))
        self.manifest = write_plan(self.store, self.manifest, made, inputs.digest)
        return made

    @property
    def rows(self) -> pa.Table:
        """All rows of the plan."""
        tables = list(read_files(self.store, plan_files(self.manifest)))
        return pa.concat_tables(tables, promote_options="permissive")

    def commit(self, shards: Collection[int], refused: Collection[str] = ()) -> None:
        """Store some shards, but for clips that could not be built."""
        for shard, rows in by_shard(self.rows):
            if shard in shards:
                keep = [n for n, key in enumerate(rows["key"].to_pylist()) if key not in refused]
                with shard_tar(self.store, f"clips/{shard_name(shard)}.tar") as tar:
                    spans = {
                        n: tar.add(f"k{n}", {"json": b"", "mp4": b"", "txt": b""}) for n in keep
                    }
                table = committed_rows(rows, spans, [])
                write_table(self.store, f"clips/{shard_name(shard)}.parquet", table)

    def close(self, lost: Collection[int] = ()) -> None:
        """Finish the build, but for shards that failed."""
        planned = {shard for shard, _ in by_shard(self.rows)}
        self.commit(planned - {*lost})
        done = {shard_name(s): Shard(clips=1, sha256="0") for s in sorted(planned - {*lost})}
        tables = plan_files(self.manifest)
        self.manifest = replace(self.manifest, state="complete", shards=done, settled=len(tables))


@pytest.fixture
def world(tmp_path: Path, scan_of: ScanOf) -> World:
    return World(tmp_path, scan_of)


def keys_by_shard(table: pa.Table) -> dict[int, list[str]]:
    return {shard: rows["key"].to_pylist() for shard, rows in by_shard(table)}


def changed(scan_of: ScanOf, name: str, clips: int) -> Scan:
    """Another video under the name, with keys of its own."""
    scan = scan_of(name, clips, content="f")
    assert not isinstance(scan, Reject)
    video, planned = scan
    return video, tuple(replace(clip, key=f"{clip.key}-new") for clip in planned)


def test_the_plan_of_an_empty_dataset_is_the_plan_anew(world: World, scan_of: ScanOf):
    inputs = world.inputs(scan_of("a", 5), scan_of("b", 1), scan_of("c", 1, content="a"))
    made = world.plan(inputs)
    anew = plan_anew(inputs, PER_SHARD)
    assert list(anew.tables) == made.tables
    assert made.rejects == anew.rejects
    assert [(r.path, r.reason) for r in made.rejects] == [("/c.mp4", "duplicate")]
    assert sorted(keys_by_shard(world.rows)) == [0, 1, 2]


def test_new_videos_come_after_what_is_settled(world: World, scan_of: ScanOf):
    world.plan(world.inputs(scan_of("a", 3)))
    world.close()
    before = world.rows
    again = scan_of("c", 2, content="a")  # a copy of a video that is there
    made = world.plan(world.inputs(scan_of("b", 1), scan_of("a", 3), again))
    assert world.rows.slice(0, 3).equals(before)
    assert keys_by_shard(world.rows)[2] == ["b-0"]
    assert [r.detail for r in made.rejects] == ["the same bytes as /a.mp4"]


@pytest.mark.parametrize("committed", [(), (1,), (0, 2, 3)])
@pytest.mark.parametrize("meanwhile", ["another", "no video", "a copy", "gone"])
def test_the_plan_is_that_of_the_inputs_whatever_was_stored_before(
    world: World, scan_of: ScanOf, committed: Sequence[int], meanwhile: str
):
    scans = [scan_of("a", 3), scan_of("b", 3), scan_of("c", 1)]
    refused = Reject(path="/b.mp4", sha256="e" * 64, stage="decode", reason="x", detail="x")
    others: dict[str, list[Scan]] = {
        "another": [changed(scan_of, "b", 5)],
        "no video": [refused],
        "a copy": [scan_of("b", 3, content="a")],
        "gone": [],
    }
    for now in (scans, [scans[0], *others[meanwhile], scans[2]], scans):
        inputs = world.inputs(*now)
        world.plan(inputs)
        assert world.rows.equals(pa.concat_tables(plan_anew(inputs, PER_SHARD).tables))
        world.commit(committed)


def test_what_is_stored_stays_only_where_the_plan_is_the_same(world: World, scan_of: ScanOf):
    world.plan(world.inputs(scan_of("a", 4), scan_of("b", 4)))
    first = keys_by_shard(world.rows)
    world.commit(first)
    world.plan(world.inputs(scan_of("a", 4), scan_of("b", 3)))
    now = keys_by_shard(world.rows)
    same = {shard for shard, keys in first.items() if now[shard] == keys}
    assert same
    assert stored_shards(world.store, 0) == same
    world.plan(world.inputs(scan_of("a", 4), scan_of("b", 3), a=("", {"n": 1})))
    assert stored_shards(world.store, 0) == set(), "they lack a column"
    assert world.store.files("clips") == []


def test_clips_refused_while_building_do_not_shift_the_plan(world: World, scan_of: ScanOf):
    inputs = world.inputs(scan_of("a", 6))
    world.plan(inputs)
    first = world.rows
    world.commit({0, 2}, refused={"a-0", "a-3"})
    world.plan(world.inputs(scan_of("a", 6)))
    assert world.rows.equals(first)


def test_a_commit_without_its_tar_is_none(world: World, scan_of: ScanOf):
    world.plan(world.inputs(scan_of("a", 6)))
    world.commit({0, 1, 2})
    world.store.delete("clips/000001.tar")
    world.store.write("clips/000002.parquet", b"PAR1")
    assert stored_shards(world.store, 0) == {0}
    assert stored_shards(world.store, 1) == set()


def test_shards_that_never_were_stored_lose_videos_that_are_others_now(
    world: World, scan_of: ScanOf
):
    scans = [scan_of("a", 4), scan_of("b", 4)]
    world.plan(world.inputs(*scans))
    first = keys_by_shard(world.rows)
    lost = next(shard for shard, keys in first.items() if any(k[0] == "b" for k in keys))
    world.close(lost={lost})
    made = world.plan(world.inputs(scans[0], changed(scan_of, "b", 1)))
    now = keys_by_shard(world.rows)
    assert now.get(lost, []) == [key for key in first[lost] if key[0] == "a"]
    assert now[4] == ["b-0-new"]
    assert [(r.path, r.reason) for r in made.rejects] == [("/b.mp4", "replaced")]
    kept = [shard for shard in first if shard != lost]
    assert all(now[shard] == first[shard] for shard in kept)


def test_the_digest_changes_with_whatever_the_plan_depends_on(world: World, scan_of: ScanOf):
    base = world.inputs(scan_of("a", 2))
    digests = {
        base.digest,
        world.inputs(scan_of("b", 2)).digest,
        world.inputs(changed(scan_of, "a", 2)).digest,
        world.inputs(scan_of("a", 2), a=("a dog", {})).digest,
        world.inputs(scan_of("a", 2), a=("", {"label": 2})).digest,
        replace(
            base, rejects=[Reject(path="x", sha256=None, stage="i", reason="r", detail="")]
        ).digest,
    }
    assert len(digests) == 6
    assert world.inputs(scan_of("a", 2)).digest == base.digest  # it was touched


def test_a_new_caption_reaches_the_rows_that_are_not_settled_and_is_told_of_the_others(
    world: World, scan_of: ScanOf
):
    def told() -> set[str]:
        rows = world.rows.to_pylist()
        return {row["caption"] for row in rows if row["path"] == "/a.mp4"}

    scans = [scan_of("a", 3), scan_of("b", 1)]
    world.plan(world.inputs(*scans, a=("old", {}), b=("b", {})))
    world.commit({0})
    assert not world.plan(world.inputs(*scans, a=("new", {"n": 1}), b=("b", {}))).warnings
    assert told() == {"new"}
    world.close()
    made = world.plan(world.inputs(*scans, a=("late", {"n": 1}), b=("b", {"empty": None})))
    assert told() == {"new"}
    (warning,) = made.warnings
    assert warning.startswith("/a.mp4: its caption or columns have changed")
    assert outdated([Source(path="/b.mp4", caption="b")], [world.rows]) == frozenset()


@pytest.mark.parametrize(
    ("stored", "new", "words"),
    [
        ("text", 3, "column 'n' holds text in .*, but whole numbers in the new inputs: give it"),
        (2**53 + 1, 0.5, "holds whole numbers in .*, but fractions in"),
        (True, 1, "holds true and false in .*, but whole numbers in"),
        (None, 1, None),
        ("text", None, None),
        (1, 0.5, None),
    ],
)
def test_a_column_that_changes_its_kind_is_refused(
    world: World, scan_of: ScanOf, stored: Scalar, new: Scalar, words: str | None
):
    given = users_columns([{"n": new}])
    check_new_columns(given, "URL", [])  # nothing is planned yet
    world.plan(world.inputs(scan_of("a", 1), a=("", {"n": stored})))
    if words is None:
        check_new_columns(given, "URL", [world.rows])
    else:
        with pytest.raises(UsageError, match=words):
            check_new_columns(given, "URL", [world.rows])
