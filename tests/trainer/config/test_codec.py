from typing import Any

import pytest

from shards import UsageError
from trainer.config import CodecConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slice": 0}, "codec.slice must be at least 1, got 0"),
        ({"name": "vae"}, "codec.name vae takes one of the two"),
        ({"name": "vae", "pretrained": "a", "family": "B"}, "'a'.*'B'.*takes one of the two"),
        ({"pretrained": "a"}, "codec.name pixels takes neither"),
        ({"name": "vae", "pretrained": "a", "arguments": "{}"}, "belong to a codec.family"),
        ({"name": "vae", "family": "B", "arguments": "[1]"}, r"must be a JSON object.*\[1\]"),
        ({"name": "vae", "family": "B", "arguments": "{"}, "must be a JSON object"),
    ],
)
def test_bad_values_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CodecConfig(**values)


def test_arguments_are_those_of_the_class() -> None:
    config = CodecConfig(name="vae", family="AutoencoderKLWan", arguments='{"z_dim": 16}')
    assert config.settings() == {"z_dim": 16}
    assert CodecConfig().settings() == {}
