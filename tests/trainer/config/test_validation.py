from typing import Any

import pytest

from shards import UsageError
from trainer.config import ValidationConfig


@pytest.mark.parametrize(
    "values",
    [{"share": 1.0}, {"share": -0.1}, {"by": "a b"}, {"levels": 0}, {"every_clips": 0}],
    ids=str,
)
def test_bad_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"validation.{next(iter(values))}"):
        ValidationConfig(**values)
