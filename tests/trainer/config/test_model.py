from typing import Any

import pytest

from shards import UsageError
from trainer.config import ModelConfig


@pytest.mark.parametrize("values", [{"dim": 30, "heads": 4}, {"depth": 0}], ids=str)
def test_bad_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        ModelConfig(**values)
