"""A batch of the stream, restored by a network: what every training loop does before its losses."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from trainer.codec.codec import Codec, FrameRule
from trainer.process.noise import noise_like
from trainer.process.objective import Reconstruction, reconstruct
from trainer.process.process import Network, Process
from trainer.process.pyramid import Clips, Levels
from trainer.stream.batch import Batch
from trainer.terms.term import Step


def denoise_batch(
    process: Process,
    codec: Codec,
    network: Network,
    batch: Batch,
    *,
    seed: int,
    noise_of: Sequence[int] | None = None,
    context: Any = None,
    share: Levels | None = None,
    clips: Clips | None = None,
) -> tuple[Reconstruction, Step]:
    """Noise clips as their recipe says, and have a network restore them.

    Args:
        network: with the call of `model.SpaceTimeTransformer`; wrapped for several ranks or not.
        batch: with its pixels on the codec's device.
        seed: of the noise, a function of it and of a position.
        noise_of: the position whose noise each sample gets; its own if not given.
        context: what the network is told of the clips beside their levels.
        share: of the reconstruction that counts, in each slot of the batch; all if not given.
        clips: what the codec makes of the batch, where it was asked before.

    Returns:
        The reconstruction, whose `loss` is the process's own, and what terms beside it look at.

    Raises:
        ValueError: the recipe draws no noise levels.
        UsageError: the codec has no clips of this length or size.
    """
    if batch.levels is None:
        raise ValueError("the recipe of this batch draws no noise levels, as TrainRecipe does")
    clips = codec.encode(batch.frames) if clips is None else clips
    slots, device = batch.frames.shape[1], clips.device
    shown = codec.rule.first_frames(slots)
    levels = batch.levels[:, shown]
    denoised = reconstruct(
        process,
        network,
        clips,
        noise_like(clips, seed, noise_of or batch.positions),
        levels.to(device, non_blocking=True),
        batch.time[shown].to(device),
        batch.stage.interval,
        context,
        share=None if share is None else share[:, shown].to(device, non_blocking=True),
    )
    step = Step(
        clean=denoised.clean,
        levels=frame_levels(levels, codec.rule, slots),
        targets=batch.flow,
        true=batch.frames,
        plans=batch.plans,
        keys=batch.keys,
        decode=codec.decode,
    )
    return denoised, step


def frame_levels(
    levels: Float[Tensor, "b l"], rule: FrameRule, frames: int
) -> Float[Tensor, "b {frames}"]:
    """Each frame's noise level: that of the latent that holds it."""
    return levels[:, [rule.latent_of(frame) for frame in range(frames)]]
