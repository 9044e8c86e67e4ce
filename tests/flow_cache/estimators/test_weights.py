import hashlib
from pathlib import Path

import pytest
import torch

from flow_cache.estimators import EstimatorUnavailable
from flow_cache.estimators.weights import fetching, hub_file, load_weights, sha256

URL = "https://example.org/models/tiny.pth"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_weights_that_are_there_are_read_and_named_by_their_content(hub: Path) -> None:
    torch.save({"weight": torch.arange(3.0)}, hub / "tiny.pth")
    state, digest = load_weights(URL, check_hash=False)
    assert state["weight"].tolist() == [0, 1, 2]
    assert digest == hashlib.sha256((hub / "tiny.pth").read_bytes()).hexdigest()
    assert digest == sha256(hub_file(URL))


def test_files_that_hold_more_than_weights_are_not_run(hub: Path) -> None:
    torch.save({"weight": Path("/")}, hub / "tiny.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        load_weights(URL, check_hash=False)


def test_what_a_library_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> int:
        print("Downloading ...")  # noqa: T201
        return 3

    assert fetching(URL, load) == 3
    assert capsys.readouterr() == ("", "Downloading ...\n")


def test_a_failed_download_says_where_the_file_belongs(hub: Path) -> None:
    def load() -> None:
        raise OSError("no route to host")

    with pytest.raises(EstimatorUnavailable, match=rf"{hub / 'tiny.pth'}.*no route.*{URL}"):
        fetching(URL, load)
