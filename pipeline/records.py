"""What travels through the build job: metadata only, never pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from shards.schema import Scalar

Progress = Callable[[str, int, int], None]  # stage, done, total
_EVENTS = ("shard_failed", "unreadable_folder")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A video to process, as named by the user.

    Attributes:
        path: absolute path of the file, or its URL.
        caption: from a manifest; None if it has none (a `.txt` beside the video may still).
        columns: the other columns of its manifest row, passed through to the index.
    """

    path: str
    caption: str | None = None
    columns: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Video:
    """Facts of one video stream; counts are of decoded frames, never header values.

    Attributes:
        stream: index of the stream in its container.
        stored: (height, width) in pixels as coded, before rotation and sample aspect.
        sample_aspect: width of a pixel over its height, 1 if the file does not say.
        rotation: degrees to turn the stored picture counter-clockwise for display.
        mirrored: the stored picture is flipped left to right before it is turned.
        average_rate: frames per second as the container claims, None if it does not.
        full_range: luma uses all codes; else 16 to 235 (scaled to the bit depth).
        matrix: id of the YCbCr matrix (ITU-T H.273, table 4); 2 is unspecified.
        transfer: id of the transfer function (H.273, table 3); 16 is PQ, 18 HLG.
        frames: frames that decode; 0 until the video has been scanned.
        shots: shots found.
        dropped: clips left out because too many of their slots repeat a frame.
        decode_errors: packets that do not decode, plus frames the decoder marks as damaged.
        start_pts, end_pts: time the frames cover, half-open, in units of the time base.
        seekable: frames read after a seek equal those of a decode from the start.
    """

    path: str
    sha256: str
    size_bytes: int
    container: str
    codec: str
    pixel_format: str
    stream: int
    time_base: Fraction
    stored: tuple[int, int]
    sample_aspect: Fraction
    rotation: int
    mirrored: bool
    average_rate: Fraction | None
    full_range: bool
    matrix: int
    transfer: int
    frames: int = 0
    shots: int = 0
    dropped: int = 0
    decode_errors: int = 0
    start_pts: int = 0
    end_pts: int = 0
    seekable: bool = False

    @property
    def seconds(self) -> float:
        return float((self.end_pts - self.start_pts) * self.time_base)

    @property
    def display_aspect(self) -> Fraction:
        """Width over height of the picture as shown."""
        height, width = self.stored
        aspect = width * self.sample_aspect / height
        return 1 / aspect if self.rotation % 180 else aspect


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """An input that gives nothing, and why.

    Attributes:
        stage: `input`, `probe`, `scan`, `decode`, `clips` or `build`.
        reason: short id, such as `too_short`.
        detail: one sentence with the figures behind it.
    """

    path: str
    sha256: str | None
    stage: str
    reason: str
    detail: str

    @property
    def is_event(self) -> bool:
        """Whether the next build tries it again; else it is a verdict on the content, and stays."""
        return self.stage == "scan" or self.reason in _EVENTS
