"""`fluxshard sample`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from fluxshard.arguments import check_writable

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8
    from torch import Tensor

    from trainer.run.restore import RunFacts


def sample(
    run: Annotated[Positional[str], arg(metavar="RUN")],
    /,
    *,
    out: str,
    count: int = 4,
    frames: int = 0,
    prompt: Annotated[tuple[str, ...], arg(metavar="TEXT...")] = (),
    label: int = -1,
    guidance: float = 1.0,
    image: Annotated[tuple[str, ...], arg(metavar="FILE...")] = (),
    at: tuple[int, ...] = (0,),
    overlap: int = 0,
    steps: int = 30,
    solver: Literal["heun", "euler"] = "heun",
    seed: int = 0,
    no_ema: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
) -> int:
    """Sample clips from a trained model, as mp4 files, and as a grid in an mp4 and a GIF.

    Args:
        run: folder of the run.
        out: folder for 000000.mp4, 000001.mp4, …, grid.mp4 and grid.gif.
        count: clips to make.
        frames: of a clip; 0: as many as the model was trained on. More are made in windows that
            overlap.
        prompt: texts, taken in turn; for a model that learned from captions.
        label: number of a class; -1: none.
        guidance: how far beyond a clip without text and class to go; 1: not, at half the cost.
        image: pictures that frames of every clip are known to be, of the size of the run's clips:
            one gives a clip that goes on from it, two the motion between them.
        at: which frames they are.
        overlap: frames that a window is given of the one before; 0: half of it or, where but one
            can be given, that.
        steps: in a window, over all stages of a pyramid together.
        solver: heun is of the second order and costs twice as much a step; euler is also DDIM's.
        seed: a clip is a function of it and its number.
        no_ema: sample from the weights as they are, not from their average.
        device: where the model runs; auto: on a GPU if there is one.
        precision: what the network computes in; auto: what the run's own `precision` says of this
            device.
    """
    import torch

    from fluxshard.commands.runs.wishes import Wish, evaluations, sample_clips
    from fluxshard.terminal import progress_bars, say
    from trainer.run.restore import load_trained, read_run
    from trainer.sample.request import Request, usual

    check_counts(count, steps)
    check_writable(out)
    facts = read_run(run)
    if precision != "auto":
        facts = replace(facts, config=replace(facts.config, precision=precision))
    check_conditions(facts, prompt, label, guidance)
    given = read_images(image, at, facts.size)
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(chosen if device == "auto" else device)
    trained = load_trained(run, facts.config, place, average=not no_ema)
    common = usual(facts.config, trained.codec.rule)
    request = Request(
        frames=frames or common.frames, steps=steps, overlap=overlap or common.overlap, seed=seed
    )
    wish = Wish(
        count=count,
        request=request,
        given=given,
        prompts=prompt,
        labels=() if label < 0 else (label,),
        guidance=guidance,
        heun=solver == "heun",
    )
    total, done = evaluations(facts.config, trained, wish), 0
    with progress_bars() as show:

        def step() -> None:
            nonlocal done
            done += 1
            show("sampling", done, total)

        clips = sample_clips(facts.config, facts.size, trained, wish, step)
    write_clips(list(clips.numpy()), Path(out), facts.config.stream.fps)
    say(f"{count} clips of {request.frames} frames → {out}")
    return 0


def check_counts(count: int, steps: int) -> None:
    """UsageError unless there is something to make, in some steps."""
    from shards import UsageError

    for name, value in (("count", count), ("steps", steps)):
        if value < 1:
            raise UsageError(f"{name} is {value}; take 1 or more")


def check_conditions(
    facts: "RunFacts", prompt: tuple[str, ...], label: int, guidance: float
) -> None:
    """UsageError where the run learned nothing of what is said."""
    from shards import UsageError

    learned = facts.config.conditioning
    if prompt and not learned.text:
        raise UsageError("the run learned from no captions (conditioning.text): drop --prompt")
    if label >= 0 and not learned.labels:
        raise UsageError("the run learned no classes (conditioning.labels): drop --label")
    if guidance != 1 and not prompt and label < 0:
        raise UsageError(
            f"guidance is {guidance}, but to nothing: give --prompt or --label, or leave it at 1"
        )


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


def write_clips(clips: "list[UInt8[np.ndarray, 't 3 h w']]", out: Path, fps: float | None) -> None:
    """Each by its number, and all together; at the model's frame rate, if it has one."""
    from fluxshard.report.grid import grid_gif, grid_video, played_at
    from shards import encode_clip

    out.mkdir(parents=True, exist_ok=True)
    rate = played_at(fps)
    for number, clip in enumerate(clips):
        (out / f"{number:06}.mp4").write_bytes(encode_clip(clip, rate))
    (out / "grid.mp4").write_bytes(grid_video(clips, rate))
    (out / "grid.gif").write_bytes(grid_gif(clips, rate))
