import gc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from hypothesis import given
from hypothesis import strategies as st

from pipeline.source.decoder import Decoder
from pipeline.source.rgb import Orientation, Picture, Thumbnail, cover_size, orientation

BT601, BT709, BT2020, UNSPECIFIED = 6, 1, 9, 2  # H.273 table 4
COEFFICIENTS = {BT601: (0.299, 0.114), BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}
COLOURS = [(16, 128, 128), (235, 128, 128), (100, 100, 160), (180, 140, 110), (60, 200, 90)]
ONE = 65536  # of the display matrix, 16.16 fixed point


def flat_frame(
    pixel_format: str, colour: tuple[int, int, int], *, height: int = 64, width: int = 64
) -> av.VideoFrame:
    """One colour, given as 8-bit YCbCr codes and scaled to the format's depth."""
    frame = av.VideoFrame(width, height, pixel_format)
    bits = frame.format.components[0].bits
    kind = np.uint8 if bits == 8 else np.uint16
    for plane, code in zip(frame.planes, colour, strict=True):
        samples = plane.buffer_size // np.dtype(kind).itemsize
        plane.update(np.full(samples, code << (bits - 8), kind).tobytes())
    return frame


def expected_rgb(colour: tuple[int, int, int], matrix: int, *, full: bool, bits: int) -> np.ndarray:
    """ITU-T H.273 equations 38-40 (range) and 49-52 (matrix), solved for R, G, B; 0 to 255."""
    y, cb, cr = (code << (bits - 8) for code in colour)
    scale, top = 2 ** (bits - 8), 2**bits - 1
    luma = y / top if full else (y - 16 * scale) / (219 * scale)
    chroma = top if full else 224 * scale
    blue, red = (cb - 128 * scale) / chroma, (cr - 128 * scale) / chroma
    kr, kb = COEFFICIENTS[matrix]
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return np.clip([r, g, b], 0, 1) * 255


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", COEFFICIENTS)
@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le"]
)
def test_matrix_and_range_are_honoured(pixel_format: str, matrix: int, full: bool) -> None:
    """Within one level of rounding to 8 bits and half a level of swscale's fixed point."""
    for colour in COLOURS:
        frame = flat_frame(pixel_format, colour)
        frame.colorspace = matrix
        frame.color_range = ColorRange.JPEG if full else ColorRange.MPEG
        rgb = Picture((32, 32), Fraction(1))(frame)
        bits = frame.format.components[0].bits
        wanted = expected_rgb(colour, matrix, full=full, bits=bits)
        assert np.abs(rgb - wanted[:, None, None]).max() <= 1.5


@pytest.mark.parametrize(
    ("pixel_format", "height", "matrix", "full"),
    [
        ("yuv420p", 576, BT601, False),
        ("yuv420p", 720, BT709, False),
        ("yuvj420p", 64, BT601, True),
    ],
)
def test_untagged_video(pixel_format: str, height: int, matrix: int, full: bool) -> None:
    """BT.709 from 720 lines on, BT.601 below, full range only for the yuvj formats."""
    colour = (100, 100, 160)
    frame = flat_frame(pixel_format, colour, height=height)
    assert frame.colorspace == UNSPECIFIED
    rgb = Picture((32, 32), Fraction(1))(frame)
    wanted = expected_rgb(colour, matrix, full=full, bits=8)
    assert np.abs(rgb - wanted[:, None, None]).max() <= 1.5


def test_rgb_frames_keep_their_values() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    np.testing.assert_array_equal(Picture((32, 48), Fraction(1))(frame), picture.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "matrix",
    [
        pytest.param((ONE, 0, 0, ONE), id="upright"),
        pytest.param((0, -ONE, ONE, 0), id="90"),
        pytest.param((-ONE, 0, 0, -ONE), id="180"),
        pytest.param((0, ONE, -ONE, 0), id="270"),
        pytest.param((-ONE, 0, 0, ONE), id="mirrored"),
        pytest.param((ONE, 0, 0, -ONE), id="upside down"),
        pytest.param((0, ONE, ONE, 0), id="transposed"),
        pytest.param((0, -ONE, -ONE, 0), id="transposed, 180"),
    ],
)
def test_display_matrix_is_applied(
    write_video: Callable[..., str], matrix: tuple[int, int, int, int]
) -> None:
    """Against the definition: stored (x, y) is shown at (ax + cy, bx + dy), moved into view."""
    a, b, c, d = matrix
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :24], stored[:16, 24:], stored[16:, :24] = 250, 160, 80
    y, x = np.mgrid[:32, :48]
    shown_x, shown_y = (a * x + c * y) // ONE, (b * x + d * y) // ONE
    shown_x, shown_y = shown_x - shown_x.min(), shown_y - shown_y.min()
    wanted = np.zeros((shown_y.max() + 1, shown_x.max() + 1), np.uint8)
    wanted[shown_y, shown_x] = stored[..., 0]
    path = write_video(
        f"matrix{matrix}.mp4",
        [stored] * 2,
        display_matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30),
        options={"crf": "1"},
    )
    with Decoder(path) as decoder:
        picture = Picture(wanted.shape, Fraction(1))(next(decoder.frames()))
    assert np.abs(picture.astype(int) - wanted).mean() < 4  # coding, but no misplaced quarter


def test_rotation_goes_counter_clockwise(data_dir: object) -> None:
    with Decoder(f"{data_dir}/bad/nasa_13013_rotated.mp4") as decoder:
        frame = next(decoder.frames())
    assert frame.rotation == 90  # as FFmpeg says, counter-clockwise
    assert orientation(frame) == (1, False)


sizes = st.tuples(st.integers(16, 4000), st.integers(16, 4000))


def test_the_orientation_follows_the_angle(data_dir: Path) -> None:
    frames = []
    for name in ("videos/bikes.mp4", "videos/fire2.mp4", "bad/nasa_13013_rotated.mp4"):
        with Decoder(str(data_dir / name)) as decoder:
            frames.append(next(decoder.frames()))
    of_video = Orientation()
    turns = [of_video(frame) for frame in (*frames, *frames[::-1])]
    assert turns == [orientation(frame) for frame in (*frames, *frames[::-1])]
    assert len(set(turns)) == 3


def test_no_frame_waits_for_the_collector(data_dir: Path) -> None:
    """Pictures of films would fill memory meanwhile."""
    with Decoder(str(data_dir / "videos/fire2.mp4")) as decoder:
        picture, frames = Picture((32, 48), Fraction(1)), decoder.frames()
        picture(next(frames))  # its matrix is read
        gc.collect()
        gc.disable()
        try:
            before = count_of_frames()
            for _, frame in zip(range(50), frames, strict=False):
                picture(frame)
            assert count_of_frames() - before <= 1
        finally:
            gc.enable()


def count_of_frames() -> int:
    return sum(type(thing) is av.VideoFrame for thing in gc.get_objects())


@given(stored=sizes, target=sizes, aspect=st.fractions(Fraction(1, 4), Fraction(4)))
def test_cover_is_the_smallest_that_keeps_the_aspect(
    stored: tuple[int, int], target: tuple[int, int], aspect: Fraction
) -> None:
    height, width = cover_size(stored, aspect, target)
    assert height >= target[0]
    assert width >= target[1]
    assert height == target[0] or width == target[1]
    shown = stored[1] * aspect / stored[0]
    # one side is exact, the other rounded by half a pixel at most
    assert abs(width - height * shown) <= Fraction(1, 2) * max(Fraction(1), shown) + 1


def test_non_square_pixels_become_square() -> None:
    assert cover_size((576, 704), Fraction(16, 11), (288, 512)) == (288, 512)
    assert cover_size((576, 704), Fraction(16, 11), (256, 384)) == (256, 455)


def test_geometry_is_exact_to_a_fraction_of_a_pixel() -> None:
    """A ramp, scaled and cropped, is the ramp at the centres of the target's pixels."""
    height, width, target = 120, 400, (48, 64)
    ramp = np.rint(np.arange(width) * 0.6 + 8).astype(np.uint8)
    picture = np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy()
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    shown = Picture(target, Fraction(1))(frame)
    covered = cover_size((height, width), Fraction(1), target)
    left = (covered[1] - target[1]) // 2
    x = (np.arange(target[1]) + left + 0.5) * width / covered[1] - 0.5
    # half a level for the ramp's own rounding, one for swscale's and ours
    assert np.abs(shown - (x * 0.6 + 8)).max() <= 1.5


@pytest.mark.parametrize(("height", "width"), [(241, 321), (17, 16), (33, 1001)])
def test_odd_sizes(height: int, width: int) -> None:
    frame = flat_frame("yuv420p", (100, 100, 160), height=height, width=width)
    picture = Picture((34, 46), Fraction(1))(frame)
    assert picture.shape == (3, 34, 46)
    assert picture.flags.c_contiguous
    assert np.ptp(picture, axis=(1, 2)).max() <= 1


def test_thumbnails_share_the_shape_of_the_first() -> None:
    thumbnail = Thumbnail()
    shapes = [
        thumbnail(flat_frame("yuv420p", (50, 128, 128), height=h, width=w)).shape
        for h, w in [(240, 320), (270, 480)]
    ]
    assert shapes == [(64, 85, 3)] * 2
