"""The tables of an mp4 say what FFmpeg's demuxer finds in it."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from shards.clip_video import encode_clip
from shards.mp4 import read_track

FRAMES = 17
CLIP = np.random.default_rng(0).integers(0, 256, (FRAMES, 3, 32, 48)).astype(np.uint8)
CODED = encode_clip(CLIP, Fraction(24))


def packets(data: bytes) -> list[av.Packet]:
    with av.open(io.BytesIO(data), "r") as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def remuxed(data: bytes, options: dict[str, str], *, sound: bool = False) -> bytes:
    """The same coded pictures in another mp4."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(buffer, "w", "mp4", options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        silence = target.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, packet in enumerate(packets(data)):
            packet.stream = stream
            target.mux(packet)
            if silence:
                quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                quiet.rate, quiet.pts = 8000, 1024 * number
                target.mux(silence.encode(quiet))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        CODED,
        encode_clip(CLIP[:1], Fraction(1)),
        encode_clip(CLIP[:16], Fraction(24000, 1001)),
        remuxed(CODED, {"movflags": "negative_cts_offsets"}),
        remuxed(CODED, {}, sound=True),  # which lies between the pictures, so that chunks are many
    ],
)
def test_pictures_lie_and_are_shown_as_ffmpeg_says(data: bytes):
    track, found = read_track(data), packets(data)
    assert len(track) == len(found)
    spans = zip(track.offsets.tolist(), track.sizes.tolist(), strict=True)
    assert [data[offset : offset + size] for offset, size in spans] == [bytes(p) for p in found]
    times = sorted(packet.pts or 0 for packet in found)
    assert track.frames.tolist() == [times.index(packet.pts or 0) for packet in found]
    assert track.size == (32, 48)
    with av.open(io.BytesIO(data), "r") as container:
        assert track.parameters == container.streams.video[0].codec_context.extradata


def changed(name: bytes, at: int, value: int) -> bytes:
    """The clip with another number in a box, `at` bytes after its name."""
    place = CODED.index(name) + 4 + at
    return CODED[:place] + struct.pack(">I", value) + CODED[place + 4 :]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no box b'moov'"),
        (b"\0\0\0\4junk", "box b'junk' of 4 bytes"),
        (CODED[:-50], "bytes, .* left"),
        (CODED.replace(b"avc1", b"hvc1"), "no box b'avc1'"),
        (CODED.replace(b"stsz", b"stzz"), "no box b'stsz'"),
        (changed(b"stsz", 8, 2**31), "buffer is smaller"),
        (changed(b"stsz", 8, 16), "times for 16|do not hold its 16"),
        (changed(b"stsz", 4, 2**31), "do not lie in"),
        (changed(b"stsz", 12, 2**31), "do not lie in"),
        (changed(b"stsc", 8, 2), "chunks do not hold"),
        (changed(b"stsc", 12, 0), "chunks do not hold"),
        (changed(b"stsc", 12, 2**32 - 1), "chunks do not hold"),
        (changed(b"stco", 4, 2**20), "buffer is smaller"),
        (changed(b"stco", 8, 2**32 - 1), "do not lie in"),
        (changed(b"stts", 8, 2**32 - 1), "times for 17"),
        (changed(b"ctts", 8, 0), "times for 17"),
    ],
)
def test_tables_that_cannot_be_true_are_a_value_error(data: bytes, said: str):
    with pytest.raises(ValueError, match=said):
        read_track(data)


def test_no_cut_and_no_flipped_byte_of_the_tables_is_another_error():
    tables = CODED.index(b"moov") - 4
    random = np.random.default_rng(0)
    for place in random.integers(tables, len(CODED), 500).tolist():
        for data in (CODED[:place], CODED[:place] + b"\xff" + CODED[place + 1 :]):
            try:
                track = read_track(data)
            except ValueError:
                continue
            assert sorted(track.frames.tolist()) == list(range(len(track)))
            assert (track.offsets + track.sizes).max() <= len(data)
