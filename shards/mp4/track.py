"""The video track of an mp4: where each coded picture lies, and which frame it shows.

FFmpeg's demuxer looks into the pictures of every file that it opens, which takes as long as
decoding four of a clip's frames; all that it finds out is written in tables (ISO/IEC 14496-12):

    moov trak mdia minf stbl   stsd avc1 avcC   the codec and its parameters
                               stsz             bytes of each sample, in the order of decoding
                               stsc stco        samples of each chunk, and where chunks begin
                               stts ctts        when each is decoded, and how much later it is shown

Nothing is believed: tables must hold the entries that they state, and samples must lie in the file.
"""

import struct
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

_BOX = struct.Struct(">I4s")  # size with this head, name
_TABLE = struct.Struct(">4xI")  # version and flags, number of entries
_PICTURE = struct.Struct(">24xHH50x")  # what an entry for avc1 says before its boxes: width, height


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Track:
    """The coded pictures of a video, in the order of decoding.

    Attributes:
        size: (height, width).
        parameters: what sets up the decoder (avcC).
        offsets, sizes: of each coded picture, in bytes of the file.
        frames: the number of the frame that each one shows, counted in the order of showing.
    """

    size: tuple[int, int]
    parameters: bytes
    offsets: Int64[np.ndarray, " t"]
    sizes: Int64[np.ndarray, " t"]
    frames: Int64[np.ndarray, " t"]

    def __len__(self) -> int:
        return len(self.frames)


def read_track(data: bytes) -> Track:
    """The H.264 track of an mp4.

    Raises:
        ValueError: the bytes are no such file, or its tables contradict each other.
    """
    try:
        boxes = _boxes(memoryview(data))
        for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            boxes = _boxes(boxes[name])
        height, width, parameters = _picture(boxes[b"stsd"])
        sizes = _sizes(boxes[b"stsz"], len(data))
        offsets = _offsets(boxes[b"stsc"], boxes[b"stco"], sizes)
        frames = _frames(boxes[b"stts"], boxes.get(b"ctts"), len(sizes))
    except KeyError as error:
        raise ValueError(f"not an H.264 mp4: it has no box {error}") from error
    except struct.error as error:
        raise ValueError(f"not an H.264 mp4: a box is too short ({error})") from error
    if not len(sizes) or (offsets + sizes).max() > len(data):
        raise ValueError(f"{len(sizes)} coded pictures do not lie in {len(data)} bytes")
    return Track(
        size=(height, width), parameters=parameters, offsets=offsets, sizes=sizes, frames=frames
    )


def _boxes(data: memoryview) -> dict[bytes, memoryview]:
    """The content of each box by its name; of several by one name the first."""
    boxes: dict[bytes, memoryview] = {}
    start = 0
    while start < len(data):
        size, name = _BOX.unpack_from(data, start)
        if not _BOX.size <= size <= len(data) - start:
            raise ValueError(
                f"not an mp4: a box {name!r} of {size} bytes, {len(data) - start} left"
            )
        boxes.setdefault(name, data[start + _BOX.size : start + size])
        start += size
    return boxes


def _picture(table: memoryview) -> tuple[int, int, bytes]:
    """(height, width, the decoder's set-up) of the only kind of sample."""
    entry = _boxes(table[_TABLE.size :])[b"avc1"]
    width, height = _PICTURE.unpack_from(entry)
    return height, width, bytes(_boxes(entry[_PICTURE.size :])[b"avcC"])


def _sizes(table: memoryview, most: int) -> Int64[np.ndarray, " t"]:
    """Bytes of each sample: one number for all, or one each."""
    alike, count = struct.unpack_from(">4xII", table)
    if not alike:
        return np.frombuffer(table, ">u4", count, offset=12).astype(np.int64)
    if alike * count > most:
        raise ValueError(f"{count} coded pictures of {alike} bytes do not lie in {most} bytes")
    return np.full(count, alike, np.int64)


def _offsets(
    chunks: memoryview, starts: memoryview, sizes: Int64[np.ndarray, " t"]
) -> Int64[np.ndarray, " t"]:
    """Where each sample begins: chunk after chunk, and one after the other in a chunk.

    Args:
        chunks: runs of (first chunk, counted from 1; samples in each chunk; kind).
        starts: of the chunks.
    """
    (count,) = _TABLE.unpack_from(starts)
    begins = np.frombuffer(starts, ">u4", count, offset=_TABLE.size).astype(np.int64)
    first, samples, _ = _entries(chunks, 3)
    lengths = np.diff(first, append=count + 1)
    regular = (lengths >= 0).all() and (samples > 0).all() and (first[:1] == 1).all()
    if not regular or (samples * lengths).sum() != len(sizes):
        raise ValueError(f"not an mp4: its chunks do not hold its {len(sizes)} coded pictures")
    each = np.repeat(samples, lengths)
    before = np.cumsum(sizes) - sizes
    leader = np.cumsum(each) - each  # the first sample of each chunk
    return before + np.repeat(begins - before[leader], each)


def _frames(
    durations: memoryview, delays: memoryview | None, count: int
) -> Int64[np.ndarray, " t"]:
    """Each sample's place in the order of showing."""
    steps = _each(durations, count)
    shown = np.cumsum(steps) - steps
    if delays is not None:
        shown += _each(delays, count).astype(np.int32)  # negative in version 1
    frames = np.empty(count, np.int64)
    frames[np.argsort(shown, kind="stable")] = np.arange(count)
    return frames


def _each(runs: memoryview, count: int) -> Int64[np.ndarray, " t"]:
    """One number for each sample, from runs of (samples, number)."""
    lengths, numbers = _entries(runs, 2)
    if lengths.sum() != count:
        raise ValueError(f"not an mp4: {lengths.sum()} times for {count} coded pictures")
    return np.repeat(numbers, lengths)


def _entries(table: memoryview, fields: int) -> Int64[np.ndarray, "fields entries"]:
    (count,) = _TABLE.unpack_from(table)
    numbers = np.frombuffer(table, ">u4", fields * count, offset=_TABLE.size)
    return numbers.reshape(count, fields).T.astype(np.int64)
