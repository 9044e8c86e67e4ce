"""Which part of a stored picture a sample shows: a function of (seed, position)."""

from collections.abc import Sequence
from dataclasses import dataclass

from shards import UsageError, chance, fold
from trainer.config import Bucket, StreamConfig
from trainer.spatial.transform import SpatialTransform

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Framing:
    """How the clips of one stored size are shown in one bucket.

    Attributes:
        stored: (height, width) of the clips.
        bucket: how large samples are.
        config: where pictures are cut, whether they are resized, how many are mirrored.

    Raises:
        UsageError: the clips are smaller than the bucket.
    """

    stored: Size
    bucket: Bucket
    config: StreamConfig

    def __post_init__(self) -> None:
        if not fits(self.stored, self.size):
            raise UsageError(
                f"clips of {_named(self.stored)} are smaller than stream.size "
                f"{_named(self.size)}, and none is made larger (both width by height): lower it, "
                "or build the dataset with a larger --size"
            )

    @property
    def size(self) -> Size:
        """(height, width) that the frames are shown at."""
        return self.bucket.size or self.stored

    @property
    def box(self) -> Size:
        """(height, width) of the part that is shown: as large as the bucket's shape allows."""
        return largest_box(self.stored, self.size) if self.config.resize else self.size

    @property
    def resizes(self) -> bool:
        """Whether the part that is shown has another size where it is shown."""
        return self.box != self.size

    def draw(self, seed: int, position: int) -> SpatialTransform | None:
        """What a position of the stream shows; None: the picture as it is stored."""
        top, left = (
            self._cut(whole - side, fold(seed, position, name))
            for whole, side, name in zip(self.stored, self.box, ("top", "left"), strict=True)
        )
        flip = chance(self.config.flip, seed, position, "flip")
        if not flip and self.stored == self.size:
            return None
        height, width = self.box
        return SpatialTransform(
            stored=self.stored,
            top=top,
            left=left,
            height=height,
            width=width,
            size=self.size,
            flip=flip,
        )

    def _cut(self, spare: int, key: int) -> int:
        """Where the box begins, of `spare` pixels that lie beside it."""
        return key % (spare + 1) if self.config.crop == "random" else spare // 2


def fits(stored: Size, size: Size) -> bool:
    """Whether pictures can be shown at a size without being made larger."""
    return stored[0] >= size[0] and stored[1] >= size[1]


def largest_box(stored: Size, size: Size) -> Size:
    """The largest (height, width) of a size's shape, to the pixel, in pictures that hold it."""
    scale = min(stored[0] / size[0], stored[1] / size[1])
    height, width = (
        min(whole, round(scale * side)) for whole, side in zip(stored, size, strict=True)
    )
    return height, width


def check_motion(framings: Sequence[Framing], *, accepted: bool) -> None:
    """UsageError if frames are resized whose motion stored flow is to supervise.

    Args:
        accepted: that is wanted all the same.
    """
    resized = [framing for framing in framings if framing.resizes]
    if resized and not accepted:
        first = resized[0]
        raise UsageError(
            f"frames of {_named(first.box)} are shown at {_named(first.size)} (stream.size): flow "
            "of resized frames is not the stored flow made smaller, so a perfect model would still "
            "have a loss. Cut them out of the stored pixels with --stream.no-resize, or accept "
            "that with --flow-loss.accept-resize"
        )


def _named(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
