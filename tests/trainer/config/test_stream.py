from typing import Any

import pytest

from shards import UsageError
from trainer.config import StreamConfig


@pytest.mark.parametrize("values", [{"batch": 0}, {"threads": 0}], ids=str)
def test_bad_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        StreamConfig(**values)
