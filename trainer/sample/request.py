"""Clips of a trained model, as somebody wants them: how many, how long, with which frames given."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from shards import UsageError, fold
from trainer.codec.codec import Codec, FrameRule
from trainer.config import TrainConfig
from trainer.sample.loop import Sampler, noise_of
from trainer.sample.schedule import Schedule, check_given, chunk_starts, schedule

Picture = UInt8[Tensor, "*b 3 h w"]  # one for all clips, or one for each
Frames = UInt8[Tensor, "b t 3 h w"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to sample.

    Attributes:
        frames: of a clip; more than the model was trained on are sampled as windows that overlap.
        steps: of a window.
        overlap: frames that a window of a long video is given of the one before.
        seed: a clip is a function of it and of the clip's position.
    """

    frames: int
    steps: int
    overlap: int
    seed: int


def usual(config: TrainConfig, rule: FrameRule) -> Request:
    """Clips as long as the training's; windows share half of their frames or, with a pyramid or
    where several frames share a latent, the one that can be given there."""
    frames = config.stream.frames
    alone = config.pyramid.coarsest > 1 or rule.factor > 1
    return Request(frames=frames, steps=30, overlap=1 if alone else max(frames // 2, 1), seed=0)


def plan(
    config: TrainConfig, rule: FrameRule, request: Request, given: Collection[int]
) -> tuple[Schedule, ...]:
    """The schedule of each window of the clips; one window where they are short enough.

    Raises:
        UsageError: a frame cannot be given, the codec has no clips of this length, or the windows
            do not fit together.
    """
    window = min(request.frames, config.stream.frames)
    if window < 1:
        raise UsageError(f"frames is {request.frames}; a clip has 1 or more")
    windows = len(chunk_starts(request.frames, window, request.overlap))
    check_given(given, window, config.pyramid.coarsest)
    check_latents(given, rule)
    if windows > 1 and request.overlap > 1 < max(config.pyramid.coarsest, rule.factor):
        raise UsageError(
            f"overlap is {request.overlap}; frame 1 of a window cannot be given, as not every "
            "stage of the pyramid has it, or its latent has others too: set overlap to 1"
        )
    known = [given, *[range(request.overlap)] * (windows - 1)]
    slots = rule.latents(window)
    return tuple(
        schedule(
            config.process,
            config.pyramid,
            slots,
            request.steps,
            [rule.latent_of(frame) for frame in frames],
        )
        for frames in known
    )


def check_latents(given: Collection[int], rule: FrameRule) -> None:
    """Refuse given frames that have no latent of their own.

    Raises:
        UsageError: naming the first of them.
    """
    for frame in sorted(given):
        if rule.factor > 1 and (frame > 0 or not rule.exact_first):
            own = "frame 0 alone has" if rule.exact_first else "no frame of this codec has"
            raise UsageError(f"frame {frame} cannot be given: {own} a latent of its own")


def fulfil(
    sampler: Sampler,
    codec: Codec,
    plans: Sequence[Schedule],
    request: Request,
    positions: Sequence[int],
    given: Mapping[int, Picture],
    size: tuple[int, int],
    progress: Callable[[], None] = lambda: None,
) -> Frames:
    """Sample the clips at some positions, [b, frames, 3, h, w].

    Windows of a long video are given frames as they are shown, which are 8-bit pictures.

    Args:
        plans: of `plan`, for this request and these frames.
        positions: which clips; any split of them gives the same ones, but for rounding.
        given: what is known of the first window, by its frame.
        size: height and width.
        progress: called after each step.
    """
    count, device = len(positions), sampler.time.device
    shape = (codec.channels, size[0] // codec.spatial, size[1] // codec.spatial)
    known = {frame: picture.expand(count, -1, -1, -1) for frame, picture in given.items()}
    parts: list[Tensor] = []
    for number, rows in enumerate(plans):
        clean = torch.zeros(count, len(rows[-1].here), *shape, device=device)
        for frame, pictures in known.items():
            clean[:, codec.rule.latent_of(frame)] = codec.encode(pictures.to(device)[:, None])[:, 0]
        seed = fold(request.seed, number, "window") if number else request.seed
        noise = noise_of(shape, seed, positions, device)
        for latest in sampler.follow(rows, noise, clean):
            x = latest
            progress()
        frames = shown(codec, x)
        parts.append(frames[:, request.overlap :] if number else frames)
        known = {n: frames[:, n - request.overlap] for n in range(request.overlap)}
    return torch.cat(parts, dim=1)[:, : request.frames]


@torch.no_grad()
def shown(codec: Codec, latents: Float[Tensor, "b u c y x"]) -> Frames:
    """Clips as pictures on a screen: 8 bits, cut at black and white."""
    return (codec.decode(latents) * 255).round().clamp(0, 255).byte()
