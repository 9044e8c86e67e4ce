"""A decoded frame as an RGB picture: colour, sample aspect, orientation, size."""

import math
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from jaxtyping import UInt8

# Raise it when a change here gives other pixels: stored flow of other pixels is not reused.
REVISION = 1

# Every flag costs a little and buys the same bytes on every machine, and chroma at full width.
_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)
_ROUGH = Interpolation.FAST_BILINEAR | Interpolation.BITEXACT
_THUMBNAIL_HEIGHT = 64

# ITU-T H.273 table 4 -> swscale's coefficient sets.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


def is_full_range(frame: av.VideoFrame) -> bool:
    """Whether luma uses all codes: tagged so, or one of the `yuvj` formats."""
    return frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")


def matrix_of(frame: av.VideoFrame) -> Colorspace:
    """The YCbCr matrix: as tagged, else BT.709 from 720 lines on and BT.601 below."""
    guess = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    return _MATRICES.get(frame.colorspace, guess)


def orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """Quarter turns counter-clockwise (0-3) for display, after a left-right flip if True.

    Read from the display matrix [[a, b], [c, d]], which maps (x, y) to (ax + cy, bx + dy); angles
    between quarter turns go to the nearest.
    """
    if "DISPLAYMATRIX" not in frame.side_data:
        return 0, False
    matrix = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]  # stub knows one key
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return round(math.atan2(-b, a) / (math.pi / 2)) % 4, mirrored


class Orientation:
    """`orientation` of the frames of one video, read anew where the angle changes.

    Frames whose side data was looked at are in a reference cycle with it: they would fill memory,
    hundreds of them, until Python's collector comes by.
    """

    def __init__(self) -> None:
        self._angle: int | None = None
        self._now = 0, False

    def __call__(self, frame: av.VideoFrame) -> tuple[int, bool]:
        """Of the next frame."""
        if self._angle != frame.rotation:
            self._angle, self._now = frame.rotation, orientation(frame)
        return self._now


def cover_size(
    stored: tuple[int, int], sample_aspect: Fraction, target: tuple[int, int]
) -> tuple[int, int]:
    """The smallest (height, width), in square pixels, of the whole picture that covers `target`.

    Keeps the display aspect: one side equals the target's, the other is the nearest pixel.
    """
    height, width = Fraction(stored[0]), stored[1] * sample_aspect
    scale = max(target[0] / height, target[1] / width)
    return max(target[0], round(height * scale)), max(target[1], round(width * scale))


class Picture:
    """Turns the frames of one video into pictures of one size, one swscale call each.

    The picture is scaled to cover `size`, keeping its display aspect (bicubic, antialiased), and
    cropped at the centre. Matrix and range are the frame's own. HDR (PQ, HLG) is not tone-mapped:
    its code values are taken as if they were SDR.
    """

    def __init__(self, size: tuple[int, int], sample_aspect: Fraction) -> None:
        self._size = size
        self._sample_aspect = sample_aspect
        self._orientation = Orientation()
        self._scaler = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "3 h w"]:
        """RGB, of the size asked for."""
        turns, mirrored = self._orientation(frame)
        height, width = self._size if turns % 2 == 0 else self._size[::-1]
        stored = (frame.height, frame.width)
        covered = cover_size(stored, self._sample_aspect, (height, width))
        rgb = _scale(self._scaler, frame, covered, "rgb24", _EXACT)
        top, left = (covered[0] - height) // 2, (covered[1] - width) // 2
        rgb = rgb[top : top + height, left : left + width]
        if turns or mirrored:
            rgb = np.ascontiguousarray(np.rot90(rgb[:, ::-1] if mirrored else rgb, turns))
        planes = np.empty((3, *rgb.shape[:2]), np.uint8)
        cv2.split(rgb, [*planes])  # a fifth of the time of a transposed copy
        return planes


class Thumbnail:
    """Turns the frames of one video into small pictures, all of the first frame's proportions.

    Stored orientation, fast scaling: for comparing frames with each other only.
    """

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        self._scaler = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "64 w 3"]:
        """BGR."""
        if self._size is None:
            width = round(frame.width * _THUMBNAIL_HEIGHT / frame.height)
            self._size = _THUMBNAIL_HEIGHT, min(max(width, 16), 4 * _THUMBNAIL_HEIGHT)
        return _scale(self._scaler, frame, self._size, "bgr24", _ROUGH)


def _scale(
    scaler: VideoReformatter,
    frame: av.VideoFrame,
    size: tuple[int, int],
    pixel_format: str,
    flags: Interpolation,
) -> UInt8[np.ndarray, "h w 3"]:
    """RGB or BGR; YCbCr frames by their own matrix and range."""
    source = {}
    if not frame.format.is_rgb:
        full = is_full_range(frame)
        source = {
            "src_colorspace": matrix_of(frame),
            "src_color_range": ColorRange.JPEG if full else ColorRange.MPEG,
        }
    scaled = scaler.reformat(
        frame,
        width=size[1],
        height=size[0],
        format=pixel_format,
        dst_color_range=ColorRange.JPEG,
        interpolation=int(flags),
        threads=1,
        **source,
    )
    return scaled.to_ndarray()
