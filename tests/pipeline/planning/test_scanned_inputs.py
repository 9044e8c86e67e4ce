"""Scans as a table of clips on disk; what it is to plan them is tested in `test_plan_dataset`."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.planning.config import ScanConfig
from pipeline.planning.scan import Scan
from pipeline.planning.scanned_inputs import ScannedInputs, check_folder, write_scan
from pipeline.planning.scans import Scans, scanned
from pipeline.records import Reject, Source
from pipeline.source.files import FileState
from pipeline.source.given_clips import OURS, GivenClips
from shards import Store, UsageError

CONFIG = ScanConfig(size=(32, 48), frames=2)
MISSING = Reject(path="/x.mp4", sha256=None, stage="input", reason="missing", detail="gone")


def scanned_inputs(store: Store, names: str, scan_of: Callable[..., Scan]) -> ScannedInputs:
    """Of videos whose results came in the order of their names."""
    scans = Scans(store, CONFIG.scan_settings)
    for name in sorted(names):
        scans.add(scanned(scan_of(name, 3, content="a" if name == "c" else None), STATE))
    scans.flush()
    sources = [Source(path=f"/{n}.mp4", caption=n, columns={"path": n, "n": 1}) for n in names]
    places = scans.places([(source.path, str(STATE)) for source in sources])
    return ScannedInputs(sources=sources, scans=scans, places=places, rejects=[MISSING])


STATE = FileState(size=1, version="1")


def test_clips_are_one_table_in_the_order_of_the_inputs_and_come_back_as_they_were(
    tmp_path: Path, scan_of: Callable[..., Scan]
):
    store = Store(tmp_path)
    inputs = scanned_inputs(store, "bac", scan_of)
    clips, rejects = write_scan(store, inputs, CONFIG)
    assert clips == 6
    assert [reject.reason for reject in rejects] == ["missing", "duplicate"]
    written = pq.read_table(tmp_path / "clips.parquet")
    assert written["key"].to_pylist() == ["b-0", "b-1", "b-2", "a-0", "a-1", "a-2"]
    assert written.schema == pa.schema([*OURS, ("user_path", pa.string()), ("n", pa.int64())])
    assert written["user_path"].to_pylist() == [*"bbbaaa"]
    table = GivenClips(str(tmp_path))
    assert pa.concat_tables(table.check(CONFIG.size, CONFIG.frames)).equals(written)
    assert ScanConfig.from_json(table.config()) == CONFIG
    assert pq.read_table(tmp_path / "rejects.parquet")["path"].to_pylist() == ["/x.mp4", "/c.mp4"]


def test_a_scan_without_clips_is_an_empty_table(tmp_path: Path, scan_of: Callable[..., Scan]):
    store = Store(tmp_path)
    inputs = scanned_inputs(store, "", scan_of)
    assert write_scan(store, inputs, CONFIG) == (0, [MISSING])
    assert pq.read_table(tmp_path / "clips.parquet").schema == pa.schema(OURS)


def test_a_folder_with_a_scan_is_free_and_one_with_anything_else_is_not(
    tmp_path: Path, scan_of: Callable[..., Scan]
):
    store = Store(tmp_path)
    check_folder(store)
    write_scan(store, scanned_inputs(store, "a", scan_of), CONFIG)
    check_folder(store)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="is not empty and holds no dataset"):
        check_folder(store)
