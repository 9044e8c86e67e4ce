"""Which samples the clips of a shard give: in each bucket, whole or window by window.

At a frame rate of the model's own (`stream.fps`) clips are as long as the windows that their time
stamps allow.
"""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from trainer.config import StreamConfig
from trainer.spatial.buckets import dropped, members
from trainer.temporal.rate import ALIGNED, FrameTimes, as_rate, frame_times, in_turn, windows

SHAPE = ("frames", "height", "width")
_RATES = ("time_base_num", "time_base_den", "fps_num", "fps_den")
TIMES = ("pts", *_RATES)
Rows = Int[np.ndarray, " _"]  # of no one length
Stamps = tuple[bytes, int, int, int, int]  # pts from the first one, int64; time base; rate


def columns_for(config: StreamConfig) -> tuple[str, ...]:
    """Of the index, that say which samples clips give."""
    return (*SHAPE, *TIMES) if config.fps else SHAPE


def pick(table: pa.Table, places: Rows, config: StreamConfig) -> list[tuple[Rows, Rows]]:
    """The samples of a shard in each bucket: the place of each one's clip, its first frame there.

    Args:
        places: of the clips that are taken.
    """
    _, heights, widths = (table[name].to_numpy()[places] for name in SHAPE)
    lengths = _lengths(table, places, config)
    inside = np.ones((1, len(places)), bool)
    if config.buckets:
        inside = members(lengths, heights, widths, config)
    elif config.fps:
        inside = lengths[None] >= config.frames
    parts = zip(config.shapes, inside, strict=True)
    if config.windows == "drawn":
        return [(places[row], np.zeros_like(places[row])) for _, row in parts]
    if config.fps:
        return [_timed(table, places[row], bucket.frames, config) for bucket, row in parts]
    return [_windows(places[row], lengths[row], bucket.frames) for bucket, row in parts]


def left_out(table: pa.Table, places: Rows, config: StreamConfig) -> Counter[str]:
    """How many clips give no sample, by reason."""
    lengths, heights, widths = (table[name].to_numpy()[places] for name in SHAPE)
    counts = Counter[str]()
    if config.fps:
        lengths, lasting = _by_time(table, places, config)
        least = min(bucket.frames for bucket in config.shapes)
        slow = (lengths < least) & (lasting >= least)
        counts[f"too slow for {config.fps:g} fps"] = int(slow.sum())
        lengths, heights, widths = lengths[~slow], heights[~slow], widths[~slow]
        if not config.buckets:
            short = int((lengths < least).sum())
            counts[f"too short for {least} frames at {config.fps:g} fps"] = short
    if config.buckets:
        counts += dropped(lengths, heights, widths, config)
    return +counts


def _lengths(table: pa.Table, places: Rows, config: StreamConfig) -> Rows:
    """Frames that clips have for a window, at the model's frame rate up to the longest bucket's."""
    if config.fps:
        return _by_time(table, places, config)[0]
    frames: Rows = table["frames"].to_numpy()[places]
    return frames


def _by_time(table: pa.Table, places: Rows, config: StreamConfig) -> tuple[Rows, Rows]:
    """The frames of the longest bucket of which a clip has a window, and as many as it lasts."""
    assert config.fps is not None, "there is one"
    asked = tuple(sorted({bucket.frames for bucket in config.shapes}))
    found = [_fitting(stamps, config.fps, asked) for stamps in _stamps(table, places)]
    longest, lasting = np.array(found, np.int64).reshape(-1, 2).T
    return longest, lasting


@lru_cache(maxsize=1 << 14)
def _fitting(stamps: Stamps, fps: float, asked: tuple[int, ...]) -> tuple[int, int]:
    """Of one clip; most clips of a dataset have the time stamps of many others."""
    times = _times(stamps, as_rate(fps))
    longest = max((n for n in asked if len(windows(times, n, ALIGNED))), default=0)
    return longest, times.slots


def _times(stamps: Stamps, rate: Fraction) -> FrameTimes:
    since, *facts = stamps
    pts = np.frombuffer(since, np.int64).tolist()
    return frame_times(pts, Fraction(*facts[:2]), Fraction(*facts[2:]), rate)


def _stamps(table: pa.Table, places: Rows) -> Iterator[Stamps]:
    """Of each clip, what says when its frames show."""
    lists = table["pts"].combine_chunks()
    offsets, values = lists.offsets.to_numpy(), lists.values.to_numpy()
    rates = np.stack([table[name].to_numpy()[places] for name in _RATES], axis=1).tolist()
    for place, (num, den, fps_num, fps_den) in zip(places.tolist(), rates, strict=True):
        pts = values[offsets[place] : offsets[place + 1]]
        yield (pts - pts[:1]).tobytes(), num, den, fps_num, fps_den


def _timed(table: pa.Table, places: Rows, slots: int, config: StreamConfig) -> tuple[Rows, Rows]:
    """The samples that clips give, one for each window, at the model's frame rate."""
    assert config.fps is not None, "there is one"
    rate = as_rate(config.fps)
    firsts = [
        in_turn(windows(_times(stamps, rate), slots, ALIGNED), ALIGNED)
        for stamps in _stamps(table, places)
    ]
    return np.repeat(places, [*map(len, firsts)]), np.concatenate([*firsts, np.empty(0, np.int64)])


def _windows(places: Rows, frames: Rows, length: int) -> tuple[Rows, Rows]:
    """The samples that clips give, one for each window of a length."""
    step = max(ALIGNED, length // ALIGNED * ALIGNED)
    counts = np.maximum(0, (frames - length) // step + 1).astype(np.int64)
    numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(places, counts), step * numbers
