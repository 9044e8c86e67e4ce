"""The one rule of rules: a value outside of what a setting may be is refused by name."""

import json
from typing import Any

from shards import UsageError


def require(condition: bool, message: str) -> None:
    """UsageError with the message unless the condition holds."""
    if not condition:
        raise UsageError(message)


def json_object(text: str, name: str, example: str) -> dict[str, Any]:
    """The JSON object that a setting is, {} of an empty one; UsageError unless it is one."""
    try:
        parsed = json.loads(text or "{}")
    except json.JSONDecodeError:
        parsed = None
    require(isinstance(parsed, dict), f"{name} must be a JSON object, as {example}, got {text!r}")
    return dict(parsed)
