"""Fixtures shared by all tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import config

from tests.servers import STALL_S, Proxy, make_bucket, s3_server, s3_settings, use_s3
from tests.shape_checker import check_shapes_of

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before torch loads: waiting threads leave their core
os.environ.setdefault("OMP_NUM_THREADS", "1")  # where tests share the cores a second one waits
os.environ.setdefault("FLUXSHARD_PATIENCE_S", "120")  # a test that stands still has less time

# No deadline: how fast a machine is must not decide a test. The same examples every time.
settings.register_profile("steady", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("steady")

# Before any of them is imported.
check_shapes_of(("flow_cache", "shards", "pipeline", "trainer", "fluxshard"))

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def as_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """No annotation is checked: what our own checks say of wrong arrays comes through."""
    monkeypatch.setattr(config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real test data (videos, flow ground truth, broken files); see CONTRIBUTING.md.

    Taken from FLUXSHARD_DATA, else `../shared/data` beside the repository.
    """
    folder = Path(os.environ.get("FLUXSHARD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real test data not found at {folder}; set FLUXSHARD_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def demo_videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The demo's videos, as sources: a folder and a manifest."""
    from fluxshard.demo.videos import make_videos

    return make_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(autouse=True, scope="session")
def no_flow_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests find no flow of earlier runs and leave none behind."""
    folder = tmp_path_factory.mktemp("flow-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLUXSHARD_CACHE", str(folder))
        yield folder


@pytest.fixture
def answers_ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt; where the suite runs in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 API server on this machine."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://NAME` of a new bucket there, for this process and those that it starts."""
    use_s3(monkeypatch, s3_settings(s3_endpoint))
    return make_bucket()


@pytest.fixture
def s3_proxy(s3_endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before that server that all use; it fails as it is told, see `tests.servers`.

    Whoever asks waits for an answer for less time than a stalled one takes.
    """
    with Proxy(s3_endpoint).running() as proxy:
        waits = {"config_kwargs": {"read_timeout": STALL_S / 3}}
        use_s3(monkeypatch, s3_settings(proxy.url, **waits))
        yield proxy


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the whole files that stores read, in order."""
    from shards.store import Store

    names: list[str] = []
    read = Store.read

    def told(store: Store, name: str) -> bytes:
        names.append(name)
        return read(store, name)

    monkeypatch.setattr(Store, "read", told)
    return names
