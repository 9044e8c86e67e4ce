"""What a model trained on `sprites.py`'s world makes of it, in figures.

Free samples begin from noise alone; continuations are given their first two frames, which
determine all others. A model that was trained to go on from two frames has no free samples, and
all figures are of its continuations.

    val         loss at fixed noise levels, of clips never trained on
    speed       Wasserstein distance of the sampled discs' speeds to the true ones', pixels a frame
    accel       and of their accelerations
    motion      mean speed of samples over that of true clips: freezing would be 0
    whole       share of sampled frames whose disc has its area, within a quarter
    flicker     temporal variance of samples over that of true clips
    drift       mean distance of a continued disc from where it has to be, over that of one that
                stands still: 1 and above is of no use; one of which half is lost counts as 1
    foreseen    the same of the clean estimate of one call, all but the two frames being noise alone
    psnr        of continuations, dB
    sampling_s  processor time of the free samples
"""

import math
import time
from pathlib import Path
from typing import Literal

import numpy as np
import sprites
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from trainer import TrainConfig, build_process
from trainer.process.process import denoise, each
from trainer.process.solver import change
from trainer.run.evaluate import evaluate, open_kept
from trainer.run.restore import Trained, load_trained
from trainer.sample.loop import Sampler, noise_of
from trainer.sample.renoise import Renoise
from trainer.sample.request import Request, fulfil, plan, shown

Figures = dict[str, float]
Given = Literal["clamped", "replaced", ""]
JUDGED, STEPS, AT_ONCE, SIDE = 32, 16, 16, sprites.SIDE
KNOWN = [0, 1]  # frames that a continuation is given
_REQUEST = Request(frames=sprites.FRAMES, steps=STEPS, overlap=1, seed=0)


def judge(
    folder: Path, config: TrainConfig, *, renoise: Renoise = "paired", given: Given = ""
) -> tuple[Figures, dict[str, Tensor]]:
    """The figures of a trained run, and its samples, uint8 [b, t, 3, h, w].

    Args:
        renoise: between the stages of a pyramid.
        given: how a continuation is told its first frames: at no noise beside noisy ones, or at
            each step put in with as much noise as all others, which needs no level for each slot
            (and changes nothing else, so that only continuations are judged); "" asks for none.
    """
    trained = load_trained(folder, config, torch.device("cpu"))
    truth = truths()
    if given == "replaced":
        continued = replaced(trained, config, truth)
        return of_continued(continued, truth), {"continued": continued}
    found, samples = Figures(), dict[str, Tensor]()
    if not config.process.given:
        began = time.process_time()
        samples["free"] = sampled(trained, config, renoise, None)
        found["sampling_s"] = time.process_time() - began
    if given:
        samples["continued"] = sampled(trained, config, renoise, truth)
        found |= of_continued(samples["continued"], truth)
        found["foreseen"] = foreseen(folder, config)
    found |= of_free(next(iter(samples.values())), truth)
    if not config.pyramid.enabled:  # whose stages have tasks, and losses, of their own
        found["val"] = evaluate(open_kept(folder))["loss"]
    return found, samples


def foreseen(folder: Path, config: TrainConfig, *, average: bool = True) -> float:
    """Of the run's newest checkpoint, from a single call for each clip."""
    trained = load_trained(folder, config, torch.device("cpu"), average=average)
    truth, process = truths(), build_process(config.process)
    clean = trained.codec.encode(truth)
    known = torch.zeros(clean.shape[:2])
    known[:, KNOWN] = 1
    levels = (1 - known) * min(process.law.highest, 80.0)
    at = process.coefficients(levels)
    noise = noise_of((3, SIDE, SIDE), 0, range(JUDGED), clean.device)("start", len(clean[0]))
    # Even at the highest level a clip would show through its noise: a disc is many pixels.
    noisy = each(known * at.gamma) * clean + each(at.sigma) * noise
    with torch.no_grad():
        made = denoise(trained.network, noisy, at, times(), None)
    return of_continued(shown(trained.codec, made), truth)["drift"]


def of_free(clips: Tensor, truth: Tensor) -> Figures:
    """How clips made of noise alone compare with true ones as a whole."""
    made, true = (sprites.track(some / 255) for some in (clips, truth))
    speeds, accelerations = (
        [np.linalg.norm(vectors, axis=2).ravel() for vectors in pair]
        for pair in ((made.velocity, true.velocity), (made.acceleration, true.acceleration))
    )
    tracked = speeds[0][np.isfinite(speeds[0])]
    flickers = [(some / 255).var(dim=1, unbiased=False).mean().item() for some in (clips, truth)]
    return {
        "speed": _distance(*speeds),
        "accel": _distance(*accelerations),
        "motion": float(tracked.mean() / speeds[1].mean()) if len(tracked) else math.nan,
        "whole": float(np.mean(np.abs(made.area - 1) < 0.25)),
        "flicker": flickers[0] / flickers[1],
    }


def of_continued(clips: Tensor, truth: Tensor) -> Figures:
    """How clips of which two frames are given compare with how they really go on."""
    last = max(KNOWN)
    made, true = (sprites.track(some / 255) for some in (clips, truth))
    off, still = (
        np.linalg.norm(centre - true.centre, axis=2)[:, last + 1 :]
        for centre in (made.centre, true.centre[:, last : last + 1])
    )
    squares = ((clips - truth.float()) / 255)[:, last + 1 :].square().mean(dim=(1, 2, 3, 4))
    return {
        "drift": float(np.where(np.isfinite(off), off, still).mean() / still.mean()),
        "psnr": float((-10 * squares.clamp(min=1e-8).log10()).mean()),
    }


def _distance(found: np.ndarray, true: np.ndarray) -> float:
    """Wasserstein's, over what was tracked; NaN where nothing was."""
    found = found[np.isfinite(found)]
    return float(wasserstein_distance(found, true)) if len(found) else math.nan


def truths() -> Tensor:
    """Clips that no run has seen, uint8 [b, t, 3, h, w]."""
    scenes = np.stack([sprites.scene(10**9 + number) for number in range(JUDGED)])
    return torch.from_numpy(scenes).permute(0, 1, 4, 2, 3).contiguous()


def times() -> Tensor:
    """When each slot is shown."""
    return torch.arange(sprites.FRAMES, dtype=torch.float32)


def sampled(
    trained: Trained, config: TrainConfig, renoise: Renoise, truth: Tensor | None
) -> Tensor:
    """Clips of a model; where there is a truth, each begins with its known frames."""
    sampler = Sampler(
        network=trained.network,
        process=build_process(config.process),
        time=times(),
        renoise=renoise,
    )
    known = [] if truth is None else KNOWN
    rows = plan(config, trained.codec.rule, _REQUEST, known)
    clips = []
    for first in range(0, JUDGED, AT_ONCE):
        some = range(first, first + AT_ONCE)
        given = {} if truth is None else {frame: truth[list(some), frame] for frame in known}
        clips.append(fulfil(sampler, trained.codec, rows, _REQUEST, some, given, (SIDE, SIDE)))
    return torch.cat(clips)


@torch.no_grad()
def replaced(trained: Trained, config: TrainConfig, truth: Tensor) -> Tensor:
    """Continuations by a model of one level a clip: at each step the known frames are replaced by
    themselves with noise of that level."""
    process, clean = build_process(config.process), trained.codec.encode(truth)
    (rows,) = plan(config, trained.codec.rule, _REQUEST, ())
    noise = noise_of((3, SIDE, SIDE), 0, range(JUDGED), clean.device)("start", len(times()))
    x = noise
    for number, row in enumerate(rows):
        here, there = (
            process.coefficients(torch.as_tensor(levels, dtype=x.dtype).expand(JUDGED, -1))
            for levels in (row.here, row.there)
        )
        if number == 0:
            x = each((here.gamma**2 + here.sigma**2).sqrt()) * noise
        noisy = each(here.gamma) * clean + each(here.sigma) * noise
        x[:, KNOWN] = noisy[:, KNOWN]
        q = denoise(trained.network, x, here, times(), None)
        x = x + change(x, q, here, there, here)
    x[:, KNOWN] = clean[:, KNOWN]
    return shown(trained.codec, x)
