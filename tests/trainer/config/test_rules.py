import pytest

from shards import UsageError
from trainer.config.rules import require


def test_what_holds_passes_and_what_does_not_is_said() -> None:
    require(True, "fine")
    with pytest.raises(UsageError, match=r"^steps must be at least 1, got 0$"):
        require(False, "steps must be at least 1, got 0")
