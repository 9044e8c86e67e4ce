from typing import Any

import pytest

from shards import UsageError
from trainer.config import NoiseConfig


@pytest.mark.parametrize("values", [{"std": 0.0}, {"sigma_data": 0.0}], ids=str)
def test_bad_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        NoiseConfig(**values)
