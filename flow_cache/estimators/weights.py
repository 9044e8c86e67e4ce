"""Weights files of learned estimators, fetched by torch hub and identified by content."""

import contextlib
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flow_cache.estimators.base import EstimatorUnavailable


def load_weights(url: str, *, check_hash: bool) -> tuple[dict[str, Any], str]:
    """State dict of the file at `url`, from torch hub's folder if it is there; and its SHA-256.

    Args:
        url: of the file.
        check_hash: a downloaded file must match the hash in its name.
    """

    def load() -> dict[str, Any]:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=check_hash, weights_only=True
        )

    state = fetching(url, load)
    return state, sha256(hub_file(url))


def fetching(url: str, load: Callable[[], Any]) -> Any:
    """What `load` returns, its messages on stderr, a failed download as an error with a remedy."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return load()
    except OSError as error:
        raise EstimatorUnavailable(
            f"weights are not at {hub_file(url)} and could not be fetched ({error}): download "
            f"{url} on a machine with network access and put the file there, or set TORCH_HOME "
            "to a folder whose hub/checkpoints/ holds it"
        ) from error


def hub_file(url: str) -> Path:
    """Where torch hub keeps the file of `url`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
