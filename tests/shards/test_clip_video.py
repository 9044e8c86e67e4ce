"""The clip video: frames that a decoder skips leave the others bit-equal."""

import io
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from shards.clip_video import (
    DamagedClip,
    decode_clip,
    decode_planes,
    decode_rgb,
    encode_clip,
    is_storable,
)


def moving_noise(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 [t, 3, h, w]: texture that moves and changes, so every frame type matters."""
    y, x, t = np.ogrid[:height, :width, :frames]
    phases = np.array([0.0, 2.0, 4.0])
    waves = np.sin((x + 2 * t)[..., None] / 5 + phases) + np.cos((y - t)[..., None] / 3 + phases)
    noise = np.random.default_rng(0).normal(0, 0.2, waves.shape)
    return np.moveaxis((waves + noise) * 50 + 128, (2, 3), (0, 1)).clip(0, 255).astype(np.uint8)


CLIP = moving_noise(49)


@pytest.mark.parametrize("length", range(2, 50))
def test_strided_decodes_are_bit_equal_to_the_full_decode(length: int):
    data = encode_clip(CLIP[:length], Fraction(24))
    full = decode_clip(data)
    assert full.shape == (length, 3, 48, 64)
    for stride in (2, 4):
        np.testing.assert_array_equal(decode_clip(data, stride=stride), full[::stride])


@pytest.mark.parametrize(("stride", "skip"), [(2, "NONREF"), (4, "BIDIR")])
def test_a_stride_decodes_only_its_share_of_the_frames(
    stride: int, skip: Literal["NONREF", "BIDIR"]
):
    data = encode_clip(CLIP[:17], Fraction(24))
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].codec_context.skip_frame = skip
        assert len(list(container.decode(video=0))) == len(range(0, 17, stride))


def test_stop_ends_the_decode_early():
    data = encode_clip(CLIP[:17], Fraction(24))
    np.testing.assert_array_equal(decode_clip(data, stride=2, stop=9), decode_clip(data)[:9:2])


def by_ffmpeg(data: bytes, format: str) -> Iterator[np.ndarray]:
    """All frames, by FFmpeg's demuxer, each converted by a reformatter of its own."""
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(
                format=format,
                src_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.MPEG,
                interpolation=int(
                    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
                ),
            )


@pytest.mark.parametrize("shown", [range(17), [8, 0, 4], [6, 6, 2], [3, 16, 1, 3], [5], []])
def test_frames_are_decoded_into_their_places(shown: Sequence[int]):
    data = encode_clip(CLIP[:17], Fraction(24))
    rgb = np.stack([*by_ffmpeg(data, "gbrp")]).transpose(0, 3, 1, 2)
    out = np.full((len(shown) + 1, 3, 48, 64), 7, np.uint8)
    decode_rgb(data, shown, out[1:])
    np.testing.assert_array_equal(out[1:], rgb[list(shown)])
    assert (out[0] == 7).all()
    planes = np.full((len(shown), 48 * 64 * 3 // 2), 7, np.uint8)
    decode_planes(data, shown, planes)
    stored = np.stack([*by_ffmpeg(data, "yuv420p")]).reshape(17, -1)
    np.testing.assert_array_equal(planes, stored[list(shown)])


def test_a_clip_of_any_even_size_is_decoded_into_its_place():
    """The decoder's rows are longer than the picture's."""
    data = encode_clip(moving_noise(3, 38, 50), Fraction(24))
    out, planes = np.empty((3, 3, 38, 50), np.uint8), np.empty((3, 38 * 50 * 3 // 2), np.uint8)
    decode_rgb(data, range(3), out)
    decode_planes(data, range(3), planes)
    rgb = np.stack([*by_ffmpeg(data, "gbrp")]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(out, rgb)
    np.testing.assert_array_equal(decode_clip(data), rgb)
    np.testing.assert_array_equal(planes, np.stack([*by_ffmpeg(data, "yuv420p")]).reshape(3, -1))


def test_frames_are_written_as_asked_for():
    data = encode_clip(CLIP[:5], Fraction(24))
    out = np.full((3, 3, 24, 64), 7, np.uint8)

    def upper_half(colours, place) -> None:
        place[:] = np.stack(colours)[:, :24]

    decode_rgb(data, [4, 0, 4], out, upper_half)
    np.testing.assert_array_equal(out, decode_clip(data)[[4, 0, 4], :, :24])


@pytest.mark.parametrize("shape", [(2, 3, 48, 64), (3, 3, 48, 48), (3, 1, 48, 64)])
def test_a_place_of_another_shape_is_refused(as_in_production: None, shape: tuple[int, ...]):
    data = encode_clip(CLIP[:3], Fraction(24))
    with pytest.raises(ValueError, match=r"frames to decode are uint8 \[3, 3, 48, 64\]"):
        decode_rgb(data, range(3), np.empty(shape, np.uint8))
    with pytest.raises(ValueError, match=r"uint8 \[3, 4608\], .* float32 \[3, 4608\]"):
        decode_planes(data, range(3), np.empty((3, 4608), np.float32))


@pytest.mark.parametrize("height", [32, 64])
def test_frames_of_another_size_than_the_clip_says_are_a_value_error(height: int):
    data = bytearray(encode_clip(CLIP[:3], Fraction(24)))
    place = data.rindex(b"avc1") + 4 + 26  # the first one stands among the brands of the file
    assert data[place : place + 2] == b"\0\x30"
    data[place : place + 2] = height.to_bytes(2, "big")
    with pytest.raises(DamagedClip, match=f"says {height}x64 and has a frame of 48x64"):
        decode_planes(bytes(data), range(3), np.empty((3, height * 96), np.uint8))


@pytest.mark.parametrize("number", [17, -1])
def test_a_frame_that_the_clip_has_not_is_a_value_error(number: int):
    data = encode_clip(CLIP[:17], Fraction(24))
    with pytest.raises(DamagedClip, match=f"17 frames, none of them is .{number}"):
        decode_rgb(data, [0, number], np.empty((2, 3, 48, 64), np.uint8))


def test_threads_decode_clips_of_several_sizes_side_by_side():
    """Each thread holds a converter, which is set up anew when the size changes."""
    clips = [encode_clip(moving_noise(3, 32 + 16 * n, 64), Fraction(24)) for n in range(3)]
    expected = [decode_clip(data) for data in clips]
    with ThreadPoolExecutor(3) as pool:
        for n, found in enumerate(pool.map(decode_clip, 4 * clips)):
            np.testing.assert_array_equal(found, expected[n % 3])


def test_colours_survive_within_the_codec_s_error():
    """Flat colours show a wrong matrix or range as an offset of several levels."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [12, 34, 56]])
    clip = np.broadcast_to(colours[:, :, None, None], (5, 3, 32, 32)).astype(np.uint8)
    decoded = decode_clip(encode_clip(clip, Fraction(10), crf=4))
    assert np.abs(decoded.astype(int) - clip).max() <= 4


def smooth_noise(seed: int, sigma: float, shape: tuple[int, ...]) -> np.ndarray:
    """float64 of standard deviation 1 and mean 0, smooth over about `sigma` pixels."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=shape), (0, 0), sigma)
    return (noise - noise.mean()) / noise.std()


def textures() -> Iterator[np.ndarray]:
    """uint8 [3, 3, 64, 96]: drifting light and, softer as in nature, colour; nothing clips."""
    for seed in range(8):
        light = smooth_noise(seed, 1.0, (64, 100, 1)) * 25
        colour = smooth_noise(seed, 5.0, (64, 100, 3)) * 15
        canvas = np.rint(128 + light.reshape(64, 100, 1) + colour).clip(1, 254).astype(np.uint8)
        moving = np.stack([canvas[:, 2 * t : 2 * t + 96] for t in range(3)])
        yield moving.transpose(0, 3, 1, 2)


def film(data_dir: Path) -> Iterator[np.ndarray]:
    """uint8 [3, 3, 256, 384] of real videos."""
    for name in ("bear.mp4", "bikes.mp4", "cat.mp4", "fire2.mp4", "run.mp4", "yoga.mp4"):
        with av.open(str(data_dir / "videos" / name)) as container:
            images = [f.to_ndarray(format="rgb24") for f in islice(container.decode(video=0), 3)]
        scaled = [cv2.resize(x, (384, 256), interpolation=cv2.INTER_AREA) for x in images]
        yield np.stack(scaled).transpose(0, 3, 1, 2)


def exact_rgb(data: bytes) -> np.ndarray:
    """float64 [t, 3, h, w]: the stored BT.709 planes in real arithmetic, never rounded."""
    pictures = []
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(video=0):
            planes = frame.to_ndarray().astype(np.float64)
            h, w = frame.height, frame.width
            luma = (planes[:h] - 16) * (255 / 219)
            chroma = (planes[h:].reshape(2, h // 2, w // 2) - 128) * (255 / 224)
            blue, red = (cv2.resize(c, (w, h), interpolation=cv2.INTER_CUBIC) for c in chroma)
            green = luma - 0.187324 * blue - 0.468124 * red
            pictures.append((luma + 1.5748 * red, green, luma + 1.8556 * blue))
    return np.array(pictures).clip(0, 255)


def bias_and_rms(error: np.ndarray) -> tuple[np.ndarray, float]:
    """Of an error [n, t, 3, h, w], in grey levels: mean by channel, and root mean square."""
    return error.mean((0, 1, 3, 4)), float(np.sqrt(np.square(error).mean()))


def round_trip(clips: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Errors [n, t, 3, h, w] of losslessly stored clips: against the clip, against `exact_rgb`."""
    against_clip, against_planes = [], []
    for clip in clips:
        data = encode_clip(clip, Fraction(10), crf=0)
        decoded = decode_clip(data).astype(np.float64)
        against_clip.append(decoded - clip)
        against_planes.append(decoded - exact_rgb(data))
    return np.stack(against_clip), np.stack(against_planes)


@pytest.mark.parametrize("kind", ["textures", "film"])
def test_a_lossless_clip_comes_back_without_bias(kind: str, request: pytest.FixtureRequest):
    clips = textures() if kind == "textures" else film(request.getfixturevalue("data_dir"))
    of_clip, of_planes = round_trip(clips)
    bias, rms = bias_and_rms(of_planes)
    assert np.abs(bias).max() < 0.02, bias
    assert rms < 0.35  # rounding alone is 0.29
    bias, rms = bias_and_rms(of_clip)
    assert np.abs(bias).max() < 0.1, bias
    assert rms < 0.8 or kind == "film"  # the finest colours of films are lost to 4:2:0


def test_encoding_is_reproducible_and_plain_mp4():
    data = encode_clip(CLIP[:17], Fraction(24000, 1001))
    assert data == encode_clip(CLIP[:17], Fraction(24000, 1001))
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        assert stream.codec.name == "h264"
        assert stream.average_rate == Fraction(24000, 1001)
        assert [frame.key_frame for frame in container.decode(stream)] == [True] + [False] * 16


_HASH_OF_ENCODING = """
import hashlib, sys
from fractions import Fraction
import numpy as np
from shards.clip_video import encode_clip
frames = np.load(sys.argv[1])
print(*(hashlib.sha256(encode_clip(frames, Fraction(24))).hexdigest() for _ in range(3)))
"""


def test_the_bytes_do_not_depend_on_what_memory_held_before(tmp_path: Path):
    """x264 has features that read memory they never wrote; glibc can fill it with a pattern."""
    np.save(tmp_path / "frames.npy", CLIP[:17])
    hashes = set()
    for pattern in ("0", "85", "170"):
        output = subprocess.run(
            [sys.executable, "-c", _HASH_OF_ENCODING, str(tmp_path / "frames.npy")],
            env={**os.environ, "MALLOC_PERTURB_": pattern, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        hashes.update(output.split())
    assert len(hashes) == 1


def test_an_odd_size_is_refused():
    with pytest.raises(ValueError, match="48x63 is odd"):
        encode_clip(CLIP[:, :, :, :63], Fraction(24))


def test_a_long_clip_has_one_keyframe():
    data = encode_clip(np.tile(moving_noise(20, 16, 16), (16, 1, 1, 1)), Fraction(24))
    full = decode_clip(data)
    for stride in (2, 4):
        np.testing.assert_array_equal(decode_clip(data, stride=stride), full[::stride])


@pytest.mark.parametrize("data", [b"", b"junk" * 100])
def test_bytes_that_are_no_clip_are_a_value_error(data: bytes):
    with pytest.raises(DamagedClip, match="not a readable clip video"):
        decode_clip(data)


def test_a_truncated_clip_is_a_value_error():
    data = encode_clip(CLIP[:17], Fraction(24))
    with pytest.raises(DamagedClip, match="clip video"):
        decode_clip(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("fps", "storable"),
    [
        (Fraction(1, 26_000), True),
        (Fraction(1, 27_000), False),
        (Fraction(2**31 - 1), True),
        (Fraction(2**31), False),
        (Fraction(10**9, 10**9 - 63), False),
        (Fraction(0), False),
        (Fraction(-25), False),
    ],
)
def test_a_rate_is_storable_where_the_muxer_takes_it(fps: Fraction, storable: bool):
    assert is_storable(fps) == storable
    frames = np.zeros((6, 3, 32, 48), np.uint8)
    if storable:
        assert len(decode_clip(encode_clip(frames, fps))) == 6
    elif 0 < fps < 2**31:
        with pytest.raises(av.FFmpegError):
            encode_clip(frames, fps)
