"""The one rule of rules: a value outside of what a setting may be is refused by name."""

from shards import UsageError


def require(condition: bool, message: str) -> None:
    """UsageError with the message unless the condition holds."""
    if not condition:
        raise UsageError(message)
