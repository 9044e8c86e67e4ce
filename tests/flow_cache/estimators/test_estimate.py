from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from flow_cache import FlowSpec, Pair, level_pairs
from flow_cache.estimators.base import check_at_least
from flow_cache.estimators.estimate import estimate_clip
from flow_cache.matching import matched_visibility
from flow_cache.occlusion import DEFAULT_CRITERION, visibility
from fluxshard.demo.scenes import random_scene

SCENE = random_scene(2, (32, 48))
FRAMES = torch.from_numpy(SCENE.clip(range(5)))


@dataclass(frozen=True)
class ExactFlow:
    """An estimator that knows the scene; its own visibility is that of the scene."""

    native: bool = False
    name: ClassVar[str] = "exact"
    revision: ClassVar[str] = "1"
    params: ClassVar[dict[str, Any]] = {}
    weights_sha256: ClassVar[None] = None
    differentiable: ClassVar[bool] = False
    whole_clip: ClassVar[bool] = False

    def check_size(self, size: tuple[int, int]) -> None:
        check_at_least(size, 1, self.name)

    def clip(self, frames: Tensor, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor | None]:
        flow = torch.stack([torch.from_numpy(SCENE.flow(*pair)) for pair in pairs])
        visible = torch.stack([torch.from_numpy(SCENE.visible(*pair)) for pair in pairs])
        return flow, visible if self.native else None

    def pair(self, first: Tensor, second: Tensor) -> Tensor:
        raise NotImplementedError


SPEC = FlowSpec(
    estimator="exact",
    revision="1",
    params={},
    weights_sha256=None,
    size=(32, 48),
    occlusion="fb-sundaram2010",
    levels=(1, 2),
    max_error_px=1 / 32,
    frames_from="source",
)


def test_all_pairs_of_the_spec_in_their_order() -> None:
    fields = estimate_clip(ExactFlow(), FRAMES, SPEC)
    assert tuple(fields) == level_pairs(5, (1, 2))
    for (i, j), field in fields.items():
        forward, backward = (torch.from_numpy(SCENE.flow(*p))[None] for p in ((i, j), (j, i)))
        assert torch.equal(field.flow, forward)
        assert torch.equal(field.visible, visibility(forward, backward, SPEC.occlusion))


def test_the_default_criterion_looks_at_the_pictures() -> None:
    spec = replace(SPEC, occlusion=DEFAULT_CRITERION)
    fields = estimate_clip(ExactFlow(), FRAMES, spec)
    for (i, j), field in fields.items():
        flows = torch.from_numpy(np.stack([SCENE.flow(i, j), SCENE.flow(j, i)]))
        assert torch.equal(field.visible[0], matched_visibility(FRAMES[[i, j]], flows)[0])
    forward = estimate_clip(ExactFlow(), FRAMES, replace(spec, directions=("forward",)))
    assert all(torch.equal(fields[pair].visible, one.visible) for pair, one in forward.items())


def test_one_direction_has_the_same_fields_as_both() -> None:
    both = estimate_clip(ExactFlow(), FRAMES, SPEC)
    backward = estimate_clip(ExactFlow(), FRAMES, replace(SPEC, directions=("backward",)))
    assert tuple(backward) == level_pairs(5, (1, 2), ("backward",))
    assert all(torch.equal(field.visible, both[pair].visible) for pair, field in backward.items())


def test_only_the_missing_pairs() -> None:
    both = estimate_clip(ExactFlow(), FRAMES, SPEC)
    some = estimate_clip(ExactFlow(), FRAMES, SPEC, pairs=((4, 2), (0, 1)))
    assert tuple(some) == ((4, 2), (0, 1))
    assert all(torch.equal(field.visible, both[pair].visible) for pair, field in some.items())
    assert estimate_clip(ExactFlow(), FRAMES, SPEC, pairs=()) == {}


@pytest.mark.parametrize("native", [False, True])
def test_pairs_of_equal_frames_are_not_estimated(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Pair] = []
    clip = ExactFlow.clip

    def record(self: ExactFlow, frames: Tensor, pairs: Sequence[Pair]) -> tuple:
        asked.extend(pairs)
        return clip(self, frames, pairs)

    monkeypatch.setattr(ExactFlow, "clip", record)
    spec = replace(SPEC, occlusion="native" if native else SPEC.occlusion)
    frozen = FRAMES.clone()
    frozen[1] = frozen[0]
    fields = estimate_clip(ExactFlow(native=native), frozen, spec)
    assert tuple(fields) == level_pairs(5, (1, 2))
    assert {(0, 1), (1, 0)} == set(fields) - set(asked)
    assert not fields[0, 1].flow.any()
    assert fields[1, 0].visible.all()
    moving = estimate_clip(ExactFlow(native=native), FRAMES, spec)[2, 3]
    torch.testing.assert_close(fields[2, 3].flow, moving.flow)
    torch.testing.assert_close(fields[2, 3].visible, moving.visible)
    assert not estimate_clip(ExactFlow(), frozen[:2], spec, [(0, 1)])[0, 1].flow.any()


def test_native_visibility_is_the_estimators() -> None:
    fields = estimate_clip(ExactFlow(native=True), FRAMES, replace(SPEC, occlusion="native"))
    for pair, field in fields.items():
        assert torch.equal(field.visible[0], torch.from_numpy(SCENE.visible(*pair)))


def test_native_visibility_must_exist() -> None:
    with pytest.raises(ValueError, match="'exact' has no visibility of its own"):
        estimate_clip(ExactFlow(), FRAMES, replace(SPEC, occlusion="native"))


def test_refuses_frames_of_another_size_and_unknown_criteria() -> None:
    with pytest.raises(ValueError, match=r"frames are \(32, 40\), the flow spec says \(32, 48\)"):
        estimate_clip(ExactFlow(), FRAMES[..., :40], SPEC)
    with pytest.raises(ValueError, match="unknown occlusion criterion 'best'"):
        estimate_clip(ExactFlow(), FRAMES, replace(SPEC, occlusion="best"))


def test_refuses_an_estimator_that_the_spec_does_not_name() -> None:
    for change in ({"estimator": "dis"}, {"revision": "2"}, {"params": {"preset": "fast"}}):
        with pytest.raises(ValueError, match="the flow spec is for estimator"):
            estimate_clip(ExactFlow(), FRAMES, replace(SPEC, **change))
