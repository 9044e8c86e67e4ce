"""`fluxshard flow` adds a layer that can be chosen by name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shards import Store, verify

Run = Callable[..., tuple[int, str, str]]


def test_a_layer_is_added_listed_and_chosen_by_name(
    dataset: str, tmp_path: Path, run: Run, facts_of: Callable[[str], dict]
):
    copy = str(shutil.copytree(dataset, tmp_path / "copy"))
    options = ["--estimator", "dis", "--from-clips", "--levels", "1,4", "--workers", "1"]
    code, _, err = run("flow", copy, *options)
    assert code == 0, err
    layers = facts_of(copy)["layers"].values()
    dis, variational = sorted(layers, key=lambda layer: layer["estimator"])
    assert (dis["frames_from"], dis["levels"]) == ("clip", [1, 4])
    assert (variational["frames_from"], variational["levels"]) == ("source", [1, 2])
    train = ["train", "--data", copy, "--out", str(tmp_path / "r"), "--preset", "tiny"]
    for layer, message in (("", "is ambiguous"), ("raft", "does not exist")):
        code, _, err = run(*train, "--stream.layer", layer, "--clips", "4")
        assert code == 2
        assert message in err
    code, _, err = run(*train, "--stream.layer", "dis", "--clips", "4")
    assert code == 2, "DIS carries no gradient"


def test_ctrl_c_leaves_a_dataset_as_it_was_and_the_same_command_goes_on(
    dataset: str, tmp_path: Path, run: Run, interrupt: Callable[..., tuple[int, str]]
):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    before = set(copy.glob("flow/*"))
    options = ["--estimator=variational", "--from-clips", "--workers=1", "--no-flow-cache"]
    command = ["flow", str(copy), *options]

    def has_begun() -> bool:
        return any(any(new.glob("*.parquet")) for new in set(copy.glob("flow/*")) - before)

    code, said = interrupt(command, has_begun, group=True)
    assert code == 130
    assert said.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert "Traceback" not in said
    assert not list(copy.rglob(".unfinished-*"))
    assert (copy / "manifest.json").read_bytes() == Path(dataset, "manifest.json").read_bytes()
    code, _, err = run(*command)
    assert code == 0
    assert " 0 kept" not in err
    assert not list(verify(Store(str(copy))))


def test_a_layer_goes_to_files_and_files_come_as_a_layer(
    dataset: str, tmp_path: Path, run: Run, facts_of: Callable[[str], dict]
):
    copy, files = str(shutil.copytree(dataset, tmp_path / "copy")), tmp_path / "files"
    export = ["--export", str(files), "--files", "png"]
    code, _, err = run("flow", copy, "--estimator", "variational", *export)
    assert code == 0, err
    written = len(list(files.rglob("*.png")))
    assert f"{written:,} files of variational-" in err
    code, _, err = run("flow", copy, "--estimator", "sea", "--import", str(files), "--levels", "2")
    assert code == 0, err
    layers = {layer["estimator"]: layer for layer in facts_of(copy)["layers"].values()}
    assert layers["imported:sea"]["levels"] == [2]
    assert not list(verify(Store(copy)))
    train = ["train", "--data", copy, "--out", str(tmp_path / "r"), "--clips", "4"]
    code, _, err = run(*train, "--stream.layer", "imported:sea", "--stream.frames", "8")
    assert code == 2
    assert "needs level 1 forward" in err


@pytest.mark.parametrize(
    "options", [["--import", "a", "--export", "b"], ["--import", "a", "--from-clips"]]
)
def test_files_are_read_or_written(dataset: str, run: Run, options: list[str]):
    code, _, err = run("flow", dataset, "--estimator", "x", *options)
    assert code == 2
    assert "give one of --import, --export and --from-clips" in err
