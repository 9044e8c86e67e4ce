import pytest

from shards import UsageError
from trainer.config.bucket import Bucket, parse_bucket, parse_size


@pytest.mark.parametrize("text", ["960x544x49", "960x544@49"])
def test_both_forms_are_read_and_one_is_printed(text: str) -> None:
    bucket = parse_bucket(text)
    assert bucket == Bucket(49, (544, 960))
    assert str(bucket) == "960x544x49"
    assert str(Bucket(17)) == "17 frames"


@pytest.mark.parametrize(
    "text", ["", "960x544", "960x544x", "960x544x0", "0x544x9", "9x9@9@9", "9 x9x9", "-9x9x9"]
)
def test_what_is_no_bucket_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"stream\.buckets must"):
        parse_bucket(text)


@pytest.mark.parametrize("text", ["", "960", "960x", "0x544", "960x544x49"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert parse_size("960x544", "stream.size") == (544, 960)
    with pytest.raises(UsageError, match=r"stream\.size must be WIDTHxHEIGHT"):
        parse_size(text, "stream.size")
