"""`fluxshard train --samples`: a video at the start and at every checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fluxshard.commands.runs.samples import read_prompts, sampling
from shards import UsageError
from shards.clip_video import decode_clip
from trainer.config import TrainConfig

Run = Callable[..., tuple[int, str, str]]


def test_samples_show_the_model_at_the_start_and_at_checkpoints(
    dataset: str, tmp_path: Path, run: Run
) -> None:
    options = ["--preset=tiny", "--clips=8", "--model.dim=32", "--model.heads=2", "--device=cpu"]
    options += ["--flow-loss.weight=0", "--checkpoint-clips=4", "--samples=2"]
    code, _, err = run("train", "--data", dataset, "--out", str(tmp_path / "run"), *options)
    assert code == 0, err
    shown = sorted((tmp_path / "run" / "samples").iterdir())
    assert [path.name for path in shown] == [f"{n:012d}.mp4" for n in (0, 4, 8)]
    assert len({decode_clip(path.read_bytes()).tobytes() for path in shown}) > 1


def test_prompts_are_the_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a dog runs\n\n  two boats \n", encoding="utf-8")
    assert read_prompts(str(file)) == ("a dog runs", "two boats")
    with pytest.raises(UsageError, match="learns from no captions"):
        sampling("run", TrainConfig(), 0, str(file))
    file.write_text("\n")
    with pytest.raises(UsageError, match="holds no text"):
        read_prompts(str(file))
    with pytest.raises(UsageError, match="No such file"):
        read_prompts(str(tmp_path / "none.txt"))


def test_without_a_wish_nothing_is_sampled() -> None:
    assert sampling("run", TrainConfig(), 0, "") is None
