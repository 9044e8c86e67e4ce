"""File systems by URL; `tests/contracts/test_stores.py` has what they do."""

import sys
from importlib import import_module
from pathlib import Path

import fsspec
import pytest

from shards.storage.failures import UsageError
from shards.storage.filesystems import open_filesystem
from tests.servers import s3_settings


def test_an_unknown_protocol_is_refused():
    with pytest.raises(UsageError, match="nope://x"):
        open_filesystem("nope://x")


@pytest.mark.parametrize(("url", "module"), [("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs")])
def test_a_package_that_is_missing_is_named_by_its_extra(
    url: str, module: str, monkeypatch: pytest.MonkeyPatch
):
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # as if it could not be found
    monkeypatch.delitem(import_module("fsspec.registry")._registry, url[:2], raising=False)
    extra = {"s3fs": "s3", "gcsfs": "gcs"}[module]
    with pytest.raises(UsageError, match=rf"is not installed: pip install 'fluxshard\[{extra}\]'"):
        open_filesystem(url)


def test_chained_urls_are_refused_and_local_names_with_colons_are_not(tmp_path: Path):
    with pytest.raises(UsageError, match="chained URLs"):
        open_filesystem("simplecache::s3://bucket/x")
    assert open_filesystem(str(tmp_path / "a::b"))[1] == str(tmp_path / "a::b")


def test_tries_are_not_multiplied_and_the_user_s_settings_hold(monkeypatch: pytest.MonkeyPatch):
    settings = s3_settings("http://127.0.0.1:9", config_kwargs={"read_timeout": 7})
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    filesystem, root = open_filesystem("s3://bucket/x")
    assert root == "bucket/x"
    assert filesystem.retries == 1
    filesystem.connect()
    config = filesystem._s3.meta.config
    assert (config.read_timeout, config.retries["total_max_attempts"]) == (7, 1)
