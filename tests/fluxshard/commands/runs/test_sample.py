"""`fluxshard sample`: files that play, given pictures in them, wrong wishes refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from shards.clip_video import decode_clip

Run = Callable[..., tuple[int, str, str]]
SIZE = (48, 64)


@pytest.fixture(scope="module")
def trained(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of two steps, of eight frames and three stages."""
    from fluxshard.main import main

    out = str(tmp_path_factory.mktemp("run") / "run")
    options = ["--preset=tiny", "--clips=8", "--model.dim=32", "--model.heads=2", "--device=cpu"]
    assert main(["train", "--data", dataset, "--out", out, *options, "--flow-loss.weight=0"]) == 0
    return out


def test_clips_play_and_stand_in_a_grid(trained: str, tmp_path: Path, run: Run) -> None:
    code, _, err = run("sample", trained, "--out", str(tmp_path), "--count=3", "--steps=3")
    assert code == 0, err
    assert "3 clips of 8 frames" in err
    clips = [decode_clip((tmp_path / f"{n:06}.mp4").read_bytes()) for n in range(3)]
    assert [clip.shape for clip in clips] == [(8, 3, *SIZE)] * 3
    assert not np.array_equal(clips[0], clips[1])
    height, width = 2 * (SIZE[0] + 4), 2 * (SIZE[1] + 4)
    assert decode_clip((tmp_path / "grid.mp4").read_bytes()).shape == (8, 3, height, width)
    with Image.open(tmp_path / "grid.gif") as gif:
        assert (gif.n_frames, gif.size) == (8, (width, height))  # type: ignore[attr-defined]
    assert len(list(tmp_path.iterdir())) == 5


def test_a_long_clip_goes_on_from_given_pictures(trained: str, tmp_path: Path, run: Run) -> None:
    colors = {0: (200, 40, 40), 4: (40, 40, 200)}  # RGB
    images = []
    for frame, color in colors.items():
        images.append(str(tmp_path / f"{frame}.png"))
        cv2.imwrite(images[-1], np.full((*SIZE, 3), color[::-1], np.uint8))
    options = ["--count=1", "--steps=3", "--frames=12", "--solver=heun", "--no-ema", "--seed=5"]
    given = ["--image", *images, "--at=0,4"]
    code, _, err = run("sample", trained, "--out", str(tmp_path / "out"), *options, *given)
    assert code == 0, err
    clip = decode_clip((tmp_path / "out" / "000000.mp4").read_bytes()).astype(int)
    assert len(clip) == 12
    for frame, color in colors.items():
        shown = clip[frame, :, 8:-8, 8:-8].mean((1, 2))
        assert np.abs(shown - color).max() < 20, frame  # but for the compression


def test_the_precision_of_the_run_can_be_overruled(
    trained: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fluxshard.commands.runs import wishes

    said, ask = [], wishes.Sampler

    def noting(**settings: Any) -> Any:
        said.append(settings["bf16"])
        return ask(**settings)

    monkeypatch.setattr(wishes, "Sampler", noting)
    for options in ([], ["--precision=bf16"]):
        command = ["sample", trained, "--out", str(tmp_path), "--count=1", "--steps=3"]
        assert run(*command, "--device=cpu", *options)[0] == 0
    assert said == [False, True]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--count=0"], "count is 0; take 1 or more"),
        (["--steps=2"], "steps is 2; the pyramid has 3 stages"),
        (["--frames=12", "--overlap=2"], "overlap is 2; frame 1 of a window cannot be given"),
        (["--image", "PICTURE", "--at=3"], "frame 3 cannot be given"),
        (["--image", "PICTURE", "--at=0,4"], "there are 1 images for the frames 0,4"),
        (["--image", "SMALL"], "is 24x32, and clips of the run are 48x64"),
        (["--prompt", "a dog"], "the run learned from no captions"),
        (["--label=2"], "the run learned no classes"),
        (["--guidance=3"], "guidance is 3.0, but to nothing"),
        (["--image", "missing.png"], "missing.png is no picture"),
    ],
)
def test_wrong_wishes_are_refused(
    trained: str, tmp_path: Path, run: Run, options: list[str], problem: str
) -> None:
    for name, scale in (("PICTURE", 1), ("SMALL", 2)):
        path = str(tmp_path / f"{name}.png")
        cv2.imwrite(path, np.zeros((SIZE[0] // scale, SIZE[1] // scale, 3), np.uint8))
        options = [path if option == name else option for option in options]
    code, _, err = run("sample", trained, "--out", str(tmp_path / "out"), *options)
    assert code == 2
    assert problem in " ".join(err.split())
    code, _, err = run("sample", str(tmp_path), "--out", str(tmp_path / "out"))
    assert code == 2
    assert "is no run" in err
