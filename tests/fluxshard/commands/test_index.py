"""`fluxshard index` writes the index files of another reader."""

from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_the_files_of_a_reader_appear_beside_the_tars(dataset: str, run: Run):
    code, out, err = run("index", dataset, "--for", "dali")
    tars = sorted(Path(dataset).rglob("*.tar"))
    written = [tar.with_suffix(".idx") for tar in tars]
    assert (code, out, err) == (0, "", f"wrote {len(tars)} files for dali in {dataset}\n")
    assert all(path.read_text().startswith("v1.2 ") for path in written)
    for path in written:
        path.unlink()


def test_a_reader_that_is_not_known_is_wrong_usage(dataset: str, run: Run):
    assert run("index", dataset, "--for", "spdl")[0] == 2
