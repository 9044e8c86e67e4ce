"""What a codec is, and how its latents lie in time."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from shards import UsageError
from trainer.config.temporal import slots_at


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRule:
    """Which frames share a latent, and which clips a codec takes.

    Frame 0 has a latent of its own. Seventeen frames, four to a latent:

        frame    0 | 1  2  3  4 | 5  6  7  8 | 9 10 11 12 | 13 14 15 16
        latent   0 |      1     |      2     |      3     |      4

    Attributes:
        factor: frames that share a latent.
        step: a clip has step·k + 1 frames; a multiple of `factor`.
        prefix: a frame is decoded of the latents up to its own; else of all of the clip's.
        exact_first: latent 0 is that of frame 0 alone, so that a given picture can stand there.
    """

    factor: int = 1
    step: int = 1
    prefix: bool = True
    exact_first: bool = True

    def fits(self, frames: int) -> bool:
        """Whether there are clips of so many frames."""
        return frames >= 1 and (frames - 1) % self.step == 0

    def latents(self, frames: int) -> int:
        """Latents of a clip of so many frames.

        Raises:
            UsageError: there are no such clips; the autoencoders themselves would drop frames.
        """
        if not self.fits(frames):
            below = max(0, frames - 1) // self.step * self.step + 1
            raise UsageError(
                f"a clip of {frames} frames does not suit the codec, which takes {self}: give it "
                f"{below} or {below + self.step}"
            )
        return self.latent_of(frames - 1) + 1

    def latent_of(self, frame: int) -> int:
        """The latent that holds a frame."""
        return -(-frame // self.factor)

    def first_frame(self, latent: int) -> int:
        """The first frame that a latent holds."""
        return max(0, self.factor * (latent - 1) + 1)

    def first_frames(self, frames: int) -> list[int]:
        """The first frame of each latent of a clip; as an index it takes [t] to [t']."""
        return [self.first_frame(latent) for latent in range(self.latents(frames))]

    def needed(self, frame: int, frames: int) -> int:
        """How many latents, from the first on, show a clip up to and with a frame."""
        whole = self.latents(frames)
        return self.latent_of(frame) + 1 if self.prefix else whole

    def __str__(self) -> str:
        return f"{self.step}·k + 1 frames" if self.step > 1 else "any number of frames"


class Codec(Protocol):
    """Frames to what the network sees, and back."""

    @property
    def rule(self) -> FrameRule:
        """How latents lie in time."""

    @property
    def channels(self) -> int:
        """Of a latent."""

    @property
    def spatial(self) -> int:
        """Pixels on a side of the square that becomes one place of a latent."""

    def encode(self, frames: UInt8[Tensor, "b t 3 h w"]) -> Float32[Tensor, "b u c y x"]:
        """What the network sees of clips: [b, t', c, h', w'], of about unit variance, no gradient.

        Raises:
            UsageError: the codec has no clips of this length or size.
        """

    def decode(self, latents: Float[Tensor, "b u c y x"]) -> Float[Tensor, "b t 3 h w"]:
        """The clips of latents, in [0, 1] but not cut there; differentiable.

        The first latents of a clip alone give its first frames where `rule.prefix` holds.
        """


def check_stages(rule: FrameRule, frames: int, strides: Iterable[int]) -> None:
    """Refuse a window that a stage's stride makes a clip of, which a codec does not take.

    Each stage is encoded by itself: 17 frames are clips of 17, 9 and 5 at strides 1, 2 and 4.

    Args:
        frames: of the window, at the full rate.
        strides: frames of it from slot to slot, of each stage.

    Raises:
        UsageError: naming the stage, the rule, and the nearest windows that do.
    """
    strides = tuple(strides)

    def broken(window: int) -> list[tuple[int, int]]:
        clips = ((stride, slots_at(window, stride)) for stride in strides)
        return [(stride, slots) for stride, slots in clips if not rule.fits(slots)]

    if not broken(frames):
        return
    stride, slots = broken(frames)[0]
    whole = rule.step * max(strides)  # a window of one more frame suits every stage
    below = (frames - 1) // whole * whole + 1
    choices = [str(window) for window in (below, below + whole) if window > 1]
    raise UsageError(
        f"stream.frames {frames} makes clips of {slots} at stride {stride}, and the codec takes "
        f"{rule}: set it to {' or '.join(choices)}, or use fewer stages of the pyramid"
    )
