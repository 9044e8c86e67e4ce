import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_cache import FlowSpec, level_pairs
from flow_cache.spec import JSON

SPEC = FlowSpec(
    estimator="ptlflow:raft",
    revision="1",
    params={"iterations": 12, "alpha": 0.5},
    weights_sha256="ab" * 32,
    size=(256, 384),
    occlusion="fb-sundaram2010",
    levels=(1, 2, 4),
    max_error_px=1 / 32,
    frames_from="source",
    coding=1,
)
# Written down once: the digest must not depend on the process, the machine or the release.
SPEC_DIGEST = "19a40602da8fb858001495fbf3ca2b64f7e6baa1f5a9e75db97aa4615b8ef029"


def test_pairs_of_two_levels_in_storage_order() -> None:
    assert level_pairs(5, (1, 2)) == (
        *((0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2), (3, 4), (4, 3)),
        *((0, 2), (2, 0), (2, 4), (4, 2)),
    )


def test_pairs_of_one_direction() -> None:
    assert level_pairs(4, (2, 1), ("backward",)) == ((1, 0), (2, 1), (3, 2), (2, 0))


@given(
    frames=st.integers(0, 60),
    levels=st.lists(st.integers(1, 16), min_size=1, unique=True),
)
def test_every_pair_is_a_stride_apart_and_starts_on_its_multiple(
    frames: int, levels: list[int]
) -> None:
    pairs = level_pairs(frames, levels)
    assert len(set(pairs)) == len(pairs)
    for i, j in pairs:
        stride = abs(j - i)
        assert stride in levels
        assert i % stride == 0
        assert 0 <= i < frames
        assert 0 <= j < frames
    assert len(pairs) == sum(2 * max(0, (frames - 1) // level) for level in levels)


@pytest.mark.parametrize("levels", [(), (0,), (1, 1), (-2,)])
def test_refuses_levels_that_are_no_strides(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="distinct positive strides"):
        level_pairs(5, levels)


CHANGES: dict[str, Any] = {
    "estimator": "dis",
    "revision": "2",
    "params": {"iterations": 13, "alpha": 0.5},
    "weights_sha256": "ac" * 32,
    "size": (256, 385),
    "occlusion": "fb-unsquared",
    "levels": (1, 2),
    "directions": ("forward",),
    "max_error_px": 1 / 16,
    "frames_from": "clip",
    "frames_revision": 2,
    "coding": 2,
}


@pytest.mark.parametrize("name", FlowSpec.__slots__)
def test_every_part_of_the_spec_changes_its_digest(name: str) -> None:
    changed = replace(SPEC, **{name: CHANGES[name]})
    assert changed.digest != SPEC.digest
    assert changed.layer != SPEC.layer
    assert changed != SPEC
    same_fields = changed.field_digest == SPEC.field_digest
    assert same_fields == (name in ("levels", "directions"))


def test_digest_is_the_same_however_the_spec_is_written() -> None:
    other = replace(
        SPEC, params={"alpha": 0.5, "iterations": 12}, levels=(4, 1, 2), size=(256, 384)
    )
    assert other == SPEC
    assert other.digest == SPEC.digest == SPEC_DIGEST
    assert hash(other) == hash(SPEC)


def test_digest_is_the_same_in_another_process() -> None:
    script = (
        "import json, sys; from flow_cache import FlowSpec;"
        "print(FlowSpec.from_json(json.load(sys.stdin)).digest)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(SPEC.to_json()),
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == SPEC_DIGEST


@pytest.mark.parametrize("coding", [1, 2])
def test_json_round_trip(coding: int) -> None:
    spec = replace(SPEC, coding=coding)
    assert FlowSpec.from_json(spec.to_json()) == spec


def test_layers_from_before_codings_had_numbers_keep_their_names() -> None:
    assert "coding" not in SPEC.to_json()
    assert FlowSpec.from_json(SPEC.to_json()).coding == 1
    assert FlowSpec.from_json(SPEC.to_json()).digest == SPEC_DIGEST


@pytest.mark.parametrize("change", [{"colour": 1}, {"levels": None}])
def test_refuses_json_that_is_no_spec(change: dict[str, Any]) -> None:
    data = {**SPEC.to_json(), **change}
    data = {name: value for name, value in data.items() if value is not None}
    with pytest.raises(ValueError, match="not a flow spec"):
        FlowSpec.from_json(data)


def test_later_changes_to_the_parameters_do_not_reach_the_spec() -> None:
    values: list[JSON] = [1, 2]
    spec = replace(SPEC, params={"values": values})
    values.append(3)
    assert spec.params == {"values": [1, 2]}


def test_layer_is_a_plain_folder_name() -> None:
    assert SPEC.layer == f"ptlflow-raft-{SPEC.digest[:12]}"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"estimator": "a/b"}, "estimator id"),
        ({"weights_sha256": "xyz"}, "64 hex digits"),
        ({"frames_from": "memory"}, "frames_from"),
        ({"size": (0, 5)}, "size must be"),
        ({"max_error_px": float("nan")}, "max_error_px"),
        ({"max_error_px": 0.0}, "max_error_px"),
        ({"directions": ("sideways",)}, "directions"),
        ({"levels": ()}, "levels"),
        ({"params": {"x": float("inf")}}, "JSON compliant"),
    ],
)
def test_refuses_values_outside_their_rule(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(SPEC, **change)
