"""`fluxshard stream`: samples told line by line, whatever the world; resumed; drawn; measured."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.clip_video import decode_clip
from shards.index import Dataset

Run = Callable[..., tuple[int, str, str]]
SMALL = ("--batch-size=4", "--threads=2")


@pytest.fixture
def told(dataset: str, run: Run, tmp_path: Path) -> Callable[..., list[list[str]]]:
    """`told(*options)`: the lines of --keys-out."""

    def call(*options: str) -> list[list[str]]:
        code, _, err = run("stream", dataset, *SMALL, *options, f"--keys-out={tmp_path}/keys")
        assert code == 0, err
        return [line.split("\t") for line in (tmp_path / "keys").read_text().splitlines()]

    return call


def test_each_line_is_a_sample_and_ranks_share_them(dataset: str, told) -> None:
    clips = Dataset(dataset).clips["key"].to_pylist()
    whole = told("--batches=6", "--stride=4")
    assert [int(position) for _, position, *_ in whole] == list(range(24))
    assert [int(epoch) for epoch, *_ in whole] == [n // len(clips) for n in range(24)]
    assert sorted(key for _, _, key, _ in whole[: len(clips)]) == sorted(clips)
    assert {frames for *_, frames in whole} == {"0,4,8"}
    halves = [told("--batches=6", "--stride=4", "--world=2", f"--rank={rank}") for rank in (0, 1)]
    assert sorted(halves[0] + halves[1], key=lambda line: int(line[1])) == whole


def test_a_frame_rate_is_one_of_time_stamps(told) -> None:
    assert {frames for *_, frames in told("--batches=2", "--fps=12", "--frames=5")} >= {"0,1,2,3,4"}
    assert {frames for *_, frames in told("--batches=2", "--fps=6", "--frames=5")} == {"0,2,4,6,8"}


def test_a_state_goes_on_in_another_world(told, run: Run, tmp_path: Path, dataset: str) -> None:
    state = tmp_path / "state.json"
    whole = told("--batches=4", "--seed=3")
    told("--batches=1", "--seed=3", "--world=4", "--rank=1", f"--state-out={state}")
    assert len(state.read_bytes()) < 2000
    rest = told("--batches=3", "--seed=3", f"--state={state}")
    assert rest == whole[4:]
    code, _, err = run("stream", dataset, *SMALL, "--where=frames > 1", f"--state={state}")
    assert code == 2
    assert "where was all, this run has frames > 1; seed was 3, this run has 0" in err


def test_json_has_the_figures_and_a_person_a_table(dataset: str, run: Run) -> None:
    code, out, err = run("stream", dataset, *SMALL, "--batches=2", "--flow=variational", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["batches"], facts["clips"], facts["damage"]) == (2, 8, {})
    assert facts["state"]["position"] == 8
    assert facts["clips_per_s"] > 0
    assert facts["read_MB_per_s"] > 0
    assert facts["flow_s"] > 0
    assert 0 <= facts["stall_share"] <= 1
    code, out, err = run("stream", dataset, *SMALL, "--batches=2")
    assert code == 0
    assert all(stage in out for stage in ("plan", "read", "decode", "flow", "stall"))
    assert "clips" in err


def test_the_first_samples_are_drawn(dataset: str, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "grid.mp4"
    options = ("--batches=2", "--stride=2", "--show=5", f"--show-out={out}")
    code, _, err = run("stream", dataset, *SMALL, *options)
    assert (code, "5 samples" in err) == (0, True), err
    assert decode_clip(out.read_bytes()).shape == (5, 3, 2 * 52, 3 * 68)


def test_buckets_are_a_table_and_what_fills_none_is_counted(dataset: str, run: Run) -> None:
    buckets = ("--buckets", "32x32@8", "9999x9999x4")
    code, out, err = run("stream", dataset, *SMALL, "--batches=1", *buckets)
    assert code == 0, err
    clips = len(Dataset(dataset))
    table = [line.split() for line in out.splitlines()]
    assert ["bucket", "samples", "of", "the", "batches"] in table
    assert ["32x32x8", f"{clips}", "100.0%"] in table
    code, out, err = run("stream", dataset, *SMALL, "--batches=3", *buckets, "--json")
    facts = json.loads(out)
    assert facts["buckets"] == [{"bucket": "32x32x8", "samples": clips, "share": 1.0}]
    assert facts["dropped"] == {}
    code, _, err = run("stream", dataset, *SMALL, "--batches=1", "--buckets", "9999x9999x4")
    assert code == 2
    assert f"fills a bucket of 9999x9999x4: {clips} are too small for every bucket" in err


def test_damage_is_named_and_stood_in_for(dataset: str, run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for file in Path(dataset).rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(dataset)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    clip = Dataset(str(copy)).clips.slice(1, 1).to_pylist()[0]
    tar = copy / "clips" / f"{clip['shard']:06d}.tar"
    data = bytearray(tar.read_bytes())
    data[clip["mp4_offset"]] ^= 1
    tar.write_bytes(data)
    code, out, err = run("stream", str(copy), *SMALL, "--batches=3", "--json")
    assert code == 0, err
    assert [*json.loads(out)["damage"]] == [clip["key"]]
    assert f"damaged: {clip['key']}: " in err
    code, _, err = run("stream", str(copy), *SMALL, "--batches=3", "--max-damaged=0")
    assert code == 1
    assert "1 samples are damaged" in err


def test_ctrl_c_ends_it_at_once_and_leaves_no_process(
    dataset: str, tmp_path: Path, interrupt: Callable[..., tuple[int, str]]
) -> None:
    keys = tmp_path / "keys"
    command = ["stream", dataset, *SMALL, "--batches=1000000", f"--keys-out={keys}"]
    code, said = interrupt(command, lambda: keys.exists() and keys.stat().st_size > 0, group=False)
    assert code == 130
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--world=3"], "cannot be split evenly over 3 ranks"),
        (["--world=2", "--rank=2"], "rank 2 of a world of 2"),
        (["--batches=0"], "take 1 or more"),
        (["--frames=99"], "asks for 99"),
        (["--fps=6"], "say how many --frames"),
        (["--fps=24", "--frames=5"], "are too slow for 24 fps"),
        (["--where=frames >"], "cannot be used"),
        (["--flow=magic"], "does not exist"),
    ],
)
def test_wrong_usage_is_one_sentence(dataset: str, run: Run, options: list[str], problem: str):
    code, _, err = run("stream", dataset, *SMALL, *options)
    assert code == 2, err
    assert problem in err
