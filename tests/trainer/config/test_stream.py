import math
from typing import Any

import pytest

from shards import UsageError
from trainer.config import Bucket, StreamConfig


@pytest.mark.parametrize(
    "values",
    [{"batch": 0}, {"threads": 0}, {"caption_dropout": 1.5}, {"fps": 0.0}, {"fps": math.nan}],
    ids=str,
)
def test_bad_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        StreamConfig(**values)


def test_the_sizes_of_samples_are_read() -> None:
    assert StreamConfig(frames=4).shapes == (Bucket(4),)
    assert StreamConfig(frames=4, size="64x48").shapes == (Bucket(4, (48, 64)),)
    buckets = StreamConfig(buckets=("64x48x9", "32x32@4"))
    assert [*map(str, buckets.shapes)] == ["64x48x9", "32x32x4"]
    with pytest.raises(UsageError, match=r"stream\.size 64x48 says nothing beside"):
        StreamConfig(size="64x48", buckets=("64x48x9",))
    with pytest.raises(UsageError, match="names one twice: 64x48x9, 64x48x9"):
        StreamConfig(buckets=("64x48x9", "64x48@9"))
