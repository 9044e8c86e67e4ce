"""Each clip goes to the bucket of which it fills most; what fills none is counted by reason."""

import numpy as np
import pytest

from trainer.config import StreamConfig
from trainer.spatial.buckets import NEITHER, SHORT, SMALL, dropped, members

CLIPS = {  # frames, height, width
    "long and wide": (81, 544, 960),
    "short and wide": (20, 544, 960),
    "square": (49, 512, 512),
    "tall": (60, 960, 544),
    "small": (49, 256, 384),
    "still": (3, 544, 960),
    "long and narrow": (81, 520, 520),
}
BUCKETS = ("960x544x49", "512x512@17", "544x960x49", "960x544x17")


def assigned(config: StreamConfig) -> dict[str, set[str]]:
    frames, heights, widths = np.array([*CLIPS.values()]).T
    found = members(frames, heights, widths, config)
    named = zip(map(str, config.shapes), found, strict=True)
    inside = [(bucket, clip) for bucket, row in named for clip in np.array([*CLIPS])[row]]
    return {clip: {bucket for bucket, one in inside if one == clip} for clip in CLIPS}


def test_a_clip_is_in_the_bucket_of_which_it_fills_most() -> None:
    assert assigned(StreamConfig(buckets=BUCKETS)) == {
        "long and wide": {"960x544x49"},
        "short and wide": {"960x544x17"},
        "square": {"512x512x17"},
        "tall": {"544x960x49"},
        "small": set(),
        "still": set(),
        "long and narrow": {"512x512x17"},
    }


def test_or_in_all_that_it_fills() -> None:
    found = assigned(StreamConfig(buckets=BUCKETS, fill="all"))
    assert found["long and wide"] == {"960x544x49", "512x512x17", "960x544x17"}
    assert found["tall"] == {"544x960x49", "512x512x17"}
    assert found["small"] == set()


def test_of_buckets_that_show_as_much_the_larger_has_it() -> None:
    clip = np.array([17]), np.array([544]), np.array([960])
    found = members(*clip, StreamConfig(buckets=("480x272x17", "960x544x17", "240x136x17")))
    assert found[:, 0].tolist() == [False, True, False]
    cut = StreamConfig(buckets=("480x272x17", "500x500x17"), resize=False)
    assert members(*clip, cut)[:, 0].tolist() == [False, True], "more of the stored pixels"
    resized = StreamConfig(buckets=("480x272x17", "500x500x17"))
    assert members(*clip, resized)[:, 0].tolist() == [True, False], "all of the picture"


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        ((81, 544, 960), None),
        ((3, 544, 960), SHORT),
        ((49, 256, 384), SMALL),
        ((3, 256, 384), SHORT),
        ((20, 544, 960), None),
        ((16, 1000, 1000), SHORT),
        ((20, 600, 600), None),
    ],
)
def test_what_fills_no_bucket_is_counted_by_reason(
    clip: tuple[int, int, int], reason: str | None
) -> None:
    frames, heights, widths = (np.array([value] * 2) for value in clip)
    found = dropped(frames, heights, widths, StreamConfig(buckets=BUCKETS))
    assert found == ({reason: 2} if reason else {})


def test_a_clip_may_be_too_short_for_one_bucket_and_too_small_for_the_other() -> None:
    config = StreamConfig(buckets=("960x544x17", "512x512x49"))
    clip = np.array([20]), np.array([512]), np.array([512])
    assert dropped(*clip, config) == {NEITHER: 1}
    assert not members(*clip, config).any()
