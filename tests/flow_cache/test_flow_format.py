"""The reader printed in docs/flow-format.md, run on what our codec writes."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow_cache.coding.codec import decode_field

REPOSITORY = Path(__file__).resolve().parent.parent.parent
GOLDEN = sorted((REPOSITORY / "tests" / "golden" / "flow").glob("*.flow"))


@pytest.fixture(scope="module")
def source() -> str:
    page = (REPOSITORY / "docs" / "flow-format.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return code


@pytest.fixture(scope="module")
def reader(source: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(compile(source, "docs/flow-format.md", "exec"), namespace)
    return namespace["read_fields"]


def test_is_short_and_needs_nothing_of_ours(source: str) -> None:
    assert len(source.splitlines()) <= 48
    imports = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
    assert imports == ["struct", "zlib", "numpy", "zstandard"]


def test_reads_a_whole_member(reader: Any) -> None:
    blobs = [path.read_bytes() for path in GOLDEN]
    for blob, (pair, flow, visible) in zip(blobs, reader(b"".join(blobs)), strict=True):
        ours = decode_field(blob)
        assert pair == ours.pair
        assert flow.dtype == np.float32
        assert np.array_equal(flow, ours.flow.numpy())
        assert np.array_equal(visible, ours.visible.numpy())


def test_notices_damage(reader: Any) -> None:
    blob = bytearray(GOLDEN[0].read_bytes())
    blob[-1] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        list(reader(bytes(blob)))
