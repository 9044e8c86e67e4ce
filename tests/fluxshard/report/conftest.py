"""What the tests of the report look at: a dataset's clips, and the records of a run."""

import pytest

from fluxshard.report.gallery import Gallery
from shards.index import Dataset


@pytest.fixture(scope="session")
def gallery(demo_dataset: str) -> Gallery:
    return Gallery(Dataset(demo_dataset))


@pytest.fixture(scope="session")
def records() -> list[dict]:
    """Lines of a metrics.jsonl."""
    return [
        {
            "step": step,
            "clips": 4 * step,
            "stage": 1 + step % 3,
            "moved": 0.125,
            "recon": 1 / step,
            "flow_error": 2 / step if step % 3 == 0 else None,
            "seconds": {"read": 0.001, "step": 0.5} | ({"flow": 0.2} if step % 3 == 0 else {}),
        }
        | ({"flow_floor": 0.0123} if step == 3 else {})
        for step in range(1, 21)
    ]
