"""`fluxshard sample`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from fluxshard.arguments import check_writable

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, UInt8
    from torch import Tensor

    from trainer.run.restore import RunFacts
    from trainer.sample.loop import Sampler
    from trainer.sample.request import Request
    from trainer.sample.schedule import Schedule

_AT_ONCE = 8  # clips


def sample(
    run: Annotated[Positional[str], arg(metavar="RUN")],
    /,
    *,
    out: str,
    count: int = 4,
    frames: int = 0,
    steps: int = 30,
    solver: Literal["heun", "euler"] = "heun",
    image: Annotated[tuple[str, ...], arg(metavar="FILE...")] = (),
    at: tuple[int, ...] = (0,),
    overlap: int = 0,
    seed: int = 0,
    no_ema: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> int:
    """Sample clips from a trained model, as mp4 files, and as a grid in an mp4 and a GIF.

    Args:
        run: folder of the run.
        out: folder for 000000.mp4, 000001.mp4, …, grid.mp4 and grid.gif.
        count: clips to make.
        frames: of a clip; 0: as many as the model was trained on. More are made in windows that
            overlap.
        steps: in a window, over all stages of a pyramid together.
        solver: heun is of the second order and costs twice as much a step; euler is also DDIM's.
        image: pictures that frames of every clip are known to be, of the size of the run's clips:
            one gives a clip that goes on from it, two the motion between them.
        at: which frames they are.
        overlap: frames that a window is given of the one before; 0: half of it, with a pyramid 1.
        seed: a clip is a function of it and its number.
        no_ema: sample from the weights as they are, not from their average.
        device: where the model runs; auto: on a GPU if there is one.
    """
    import torch

    from fluxshard.terminal import say
    from trainer import build_process
    from trainer.run.restore import load_model, read_run
    from trainer.sample.loop import Sampler
    from trainer.sample.request import plan, usual

    check_counts(count, steps)
    check_writable(out)
    facts = read_run(run)
    asked = usual(facts.config)
    wanted = replace(
        asked,
        frames=frames or asked.frames,
        steps=steps,
        overlap=overlap or asked.overlap,
        seed=seed,
    )
    given = read_images(image, at, facts.size)
    plans = plan(facts.config, wanted, tuple(given))
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(chosen if device == "auto" else device)
    sampler = Sampler(
        network=load_model(run, facts.config, place, average=not no_ema),
        process=build_process(facts.config.process),
        time=torch.arange(facts.config.stream.frames, dtype=torch.float32, device=place),
        heun=solver == "heun",
    )
    clips = make(sampler, plans, wanted, count, facts, given)
    write_clips(clips, Path(out))
    say(f"{count} clips of {wanted.frames} frames → {out}")
    return 0


def check_counts(count: int, steps: int) -> None:
    """UsageError unless there is something to make, in some steps."""
    from shards import UsageError

    for name, value in (("count", count), ("steps", steps)):
        if value < 1:
            raise UsageError(f"{name} is {value}; take 1 or more")


def read_images(
    files: tuple[str, ...], at: tuple[int, ...], size: tuple[int, int]
) -> "dict[int, UInt8[Tensor, '3 h w']]":
    """Pictures by the frames that they are.

    Raises:
        UsageError: a file is no picture of this size, or there is not one for each frame.
    """
    import cv2
    import torch

    from shards import UsageError

    if not files:
        return {}
    if len(files) != len(set(at)) or len(at) != len(files):
        raise UsageError(
            f"there are {len(files)} images for the frames {','.join(map(str, at))}: name one "
            "frame for each image by --at, as 0,15"
        )
    found = {}
    for frame, file in zip(at, files, strict=True):
        picture = cv2.imread(file)
        if picture is None:
            raise UsageError(f"{file} is no picture that can be read")
        if picture.shape[:2] != size:
            height, width = picture.shape[:2]
            raise UsageError(
                f"{file} is {height}x{width}, and clips of the run are {size[0]}x{size[1]}: crop "
                "or scale it to that"
            )
        found[frame] = torch.from_numpy(picture[..., ::-1].transpose(2, 0, 1).copy())
    return found


def make(
    sampler: "Sampler",
    plans: "tuple[Schedule, ...]",
    request: "Request",
    count: int,
    facts: "RunFacts",
    given: "dict[int, UInt8[Tensor, '3 h w']]",
) -> "list[UInt8[np.ndarray, 't 3 h w']]":
    """The clips of positions 0, 1, …, some at a time."""
    from fluxshard.terminal import progress_bars
    from trainer import to_signal
    from trainer.sample.request import fulfil

    known = {frame: to_signal(picture) for frame, picture in given.items()}
    groups = [range(first, min(first + _AT_ONCE, count)) for first in range(0, count, _AT_ONCE)]
    total, done = len(groups) * sum(map(len, plans)), 0
    clips: list[np.ndarray] = []
    with progress_bars() as show:

        def step() -> None:
            nonlocal done
            done += 1
            show("sampling", done, total)

        for positions in groups:
            shape = (3, *facts.size)
            clips += pictures(fulfil(sampler, plans, request, positions, shape, known, step))
    return clips


def pictures(clips: "Float[Tensor, 'b t 3 h w']") -> "list[UInt8[np.ndarray, 't 3 h w']]":
    """What the network made, as frames."""
    from trainer import to_unit

    return list((to_unit(clips) * 255).round().clamp(0, 255).byte().cpu().numpy())


def write_clips(clips: "list[UInt8[np.ndarray, 't 3 h w']]", out: Path) -> None:
    """Each by its number, and all together."""
    from fluxshard.report.grid import FPS, grid_gif, grid_video
    from shards import encode_clip

    out.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(clips):
        (out / f"{number:06}.mp4").write_bytes(encode_clip(clip, FPS))
    (out / "grid.mp4").write_bytes(grid_video(clips))
    (out / "grid.gif").write_bytes(grid_gif(clips))
