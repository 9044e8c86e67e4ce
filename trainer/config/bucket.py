"""How large a sample is, as written in a configuration: `960x544x49`, `512x512@17`, `960x544`.

Sizes are width by height here, as models name theirs; everywhere else they are (height, width).
"""

import re
from dataclasses import dataclass

from trainer.config.rules import require

_SIZE = re.compile(r"(\d+)x(\d+)")
_BUCKET = re.compile(r"(\d+x\d+)[x@](\d+)")


@dataclass(frozen=True, slots=True)
class Bucket:
    """How large the samples of a batch are.

    Attributes:
        frames: that a sample spans at the full rate.
        size: (height, width) that they are shown at; None: as stored.
    """

    frames: int
    size: tuple[int, int] | None = None

    def __str__(self) -> str:
        """`960x544x49`; without a size `49 frames`."""
        if self.size is None:
            return f"{self.frames} frames"
        return f"{self.size[1]}x{self.size[0]}x{self.frames}"


def parse_size(text: str, name: str) -> tuple[int, int]:
    """(height, width) of `960x544`; UsageError, which calls it `name`, for anything else."""
    found = _SIZE.fullmatch(text)
    width, height = map(int, found.groups()) if found else (0, 0)
    require(
        min(width, height) >= 1,
        f"{name} must be WIDTHxHEIGHT in pixels, such as 960x544, got {text!r}",
    )
    return height, width


def parse_bucket(text: str) -> Bucket:
    """The bucket of `960x544x49` or `960x544@49`; UsageError for anything else."""
    found = _BUCKET.fullmatch(text)
    size, frames = found.groups() if found else ("0x0", "0")
    require(
        found is not None and int(frames) >= 1,
        "stream.buckets must each be WIDTHxHEIGHTxFRAMES, such as 960x544x49 or 960x544@49, "
        f"got {text!r}",
    )
    return Bucket(int(frames), parse_size(size, "stream.buckets"))
