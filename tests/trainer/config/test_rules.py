import pytest

from shards import UsageError
from trainer.config.rules import json_object, require


def test_what_holds_passes_and_what_does_not_is_said() -> None:
    require(True, "fine")
    with pytest.raises(UsageError, match=r"^steps must be at least 1, got 0$"):
        require(False, "steps must be at least 1, got 0")


def test_a_json_object_is_read_and_anything_else_refused_by_name() -> None:
    assert json_object("", "model.arguments", "{}") == {}
    assert json_object('{"a": [1]}', "model.arguments", "{}") == {"a": [1]}
    for text in ("[1]", "{", "3"):
        with pytest.raises(UsageError, match=r"^model.arguments must be a JSON object, as"):
            json_object(text, "model.arguments", "{}")
