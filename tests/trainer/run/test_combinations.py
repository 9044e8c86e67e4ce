"""The methods together: three steps of every combination that is allowed, with gradients."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, count, product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from flow_cache.field import FlowField
from flow_cache.spec import level_pairs
from fluxshard.demo.scenes import random_scene
from shards.index import Dataset
from tests.autoencoders import TINY
from tests.trainer.conftest import small_spec, write_dataset
from trainer.codec.codec import FrameRule
from trainer.config import (
    CodecConfig,
    FlowLossConfig,
    FluxFlowConfig,
    ModelConfig,
    OptimConfig,
    ProcessConfig,
    PyramidConfig,
    StreamConfig,
    TrainConfig,
)
from trainer.process.objective import reconstruct
from trainer.run.log import Record
from trainer.run.loop import train
from trainer.run.restore import Trained
from trainer.temporal.recipe import TrainRecipe

SIZE, FRAMES, STEPS = (32, 32), 17, 3  # 17, 9 and 5 frames suit the tiny Wan


class Combination(NamedTuple):
    """One value of each axis."""

    process: Any
    shuffle: Any
    stages: int
    per_slot: bool
    flow_loss: bool
    codec: str

    @property
    def pairs(self) -> set[tuple[Any, ...]]:
        """All that two axes have in common here."""
        return {*combinations(zip(self._fields, self, strict=True), 2)}


EVERY = [
    Combination(*values)
    for values in product(
        ("edm", "flow", "ddim"),
        ("off", "frame", "block"),
        (1, 3),
        (False, True),
        (False, True),
        ("pixels", "wan"),
    )
]
PAIRS = set[tuple[Any, ...]]().union(*(each.pairs for each in EVERY))


def covering(choices: Sequence[Combination]) -> list[Combination]:
    """Some that hold every two values of two axes together: greedily, the one with most new."""
    missing, found = set(PAIRS), list[Combination]()
    while missing:
        found.append(max(choices, key=lambda each: len(each.pairs & missing)))
        missing -= found[-1].pairs
    return found


FEW = covering(EVERY)


def settings(combination: Combination) -> TrainConfig:
    """A run of three steps; of a pyramid, one at each stage, the full rate last."""
    process, shuffle, stages, per_slot, flow_loss, codec = combination
    wan = codec == "wan"
    family, arguments = TINY["wan"]
    vae = CodecConfig(name="vae", family=family, arguments=json.dumps(arguments))
    config = TrainConfig(
        clips=2 * STEPS,
        device="cpu",
        log_steps=1,
        checkpoint_clips=2 * STEPS,
        stream=StreamConfig(frames=FRAMES, batch=2, threads=1, prefetch=1),
        process=ProcessConfig(kind=process, per_slot=float(per_slot)),
        fluxflow=FluxFlowConfig(mode=shuffle, block=4, remainder="head"),
        pyramid=PyramidConfig(enabled=stages > 1, odds="equal"),
        flow_loss=FlowLossConfig(weight=0.02 * flow_loss, psi=2.0),
        codec=vae if wan else CodecConfig(),
        model=ModelConfig(dim=16, depth=1, heads=2, patch=2 if wan else 16),
        optim=OptimConfig(learning_rate=1e-3, warmup_clips=0, ema_clips=4),
    )
    wanted = [*range(stages, 0, -1)] if stages > 1 else [1] * STEPS
    seeds = (replace(config, seed=seed) for seed in count())
    return next(config for config in seeds if stages_of(config) == wanted)


def stages_of(config: TrainConfig) -> list[int]:
    return [TrainRecipe(config).group(batch).number for batch in range(STEPS)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two scenes with the flow that they truly have."""
    spec, times = replace(small_spec(), size=SIZE), [float(t) for t in range(FRAMES)]
    scenes = [random_scene(seed, SIZE, speed=1.0) for seed in range(2)]
    fields = [
        {
            (a, b): FlowField(
                flow=torch.from_numpy(scene.flow(a, b))[None],
                visible=torch.from_numpy(scene.visible(a, b))[None],
            )
            for a, b in level_pairs(FRAMES, spec.levels, spec.directions)
        }
        for scene in scenes
    ]
    sources = [scene.clip(times) for scene in scenes]
    return write_dataset(tmp_path_factory.mktemp("data") / "17", spec, sources, fields, (2,))


@pytest.mark.parametrize(
    "combination",
    [pytest.param(each, marks=[] if each in FEW else pytest.mark.drill) for each in EVERY],
    ids=lambda each: "-".join(map(str, each)),
)
def test_a_combination_trains(dataset: Dataset, tmp_path: Path, combination: Combination) -> None:
    """All 144 with `-m ""`.

    The network begins with zeros that let no gradient past them: the first step mends the last
    layer, the second the gates of the blocks, and at the third all weights have a gradient.
    """
    seen: list[Record] = []
    gradients: dict[str, torch.Tensor] = {}

    def watch(model: Trained, clips: int) -> None:
        if clips:
            named = model.network.named_parameters()
            gradients.update({n: torch.zeros(1) if p.grad is None else p.grad for n, p in named})

    train(dataset.url, tmp_path, settings(combination), seen.append, watch)
    assert len(seen) == STEPS
    assert all(isinstance(line[name], float) for line in seen for name in ("loss", "recon"))
    assert (sum(line.get("flow_loss", 0) for line in seen) > 0) == combination.flow_loss
    assert len(gradients) > 10
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


def test_any_two_values_are_tried_together_without_the_drill() -> None:
    assert set[tuple[Any, ...]]().union(*(each.pairs for each in FEW)) == PAIRS
    assert len(PAIRS) == 9 + 2 * 3 * 8 + 6 * 4


def test_latents_of_a_stage_are_told_the_time_and_level_of_their_first_frame(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sampling tells them, too: the first times of the full rate, by the stride."""
    told: list[list[float]] = []

    def noting(*given: Any, **more: Any) -> Any:
        _, _, clips, _, levels, time, interval, _ = given
        told.append(time.tolist())
        assert levels.shape == clips.shape[:2] == (2, len(time))
        assert ((interval.end <= levels) & (levels <= interval.start + 1e-6)).all()
        assert len(levels.unique()) == levels.numel()
        return reconstruct(*given, **more)

    monkeypatch.setattr("trainer.terms.denoised.reconstruct", noting)
    train(dataset.url, tmp_path, settings(Combination("flow", "off", 3, True, False, "wan")))
    assert told == [[0, 4], [0, 2, 10], [0, 1, 5, 9, 13]]
    times = FrameRule(factor=4, step=4).first_frames(FRAMES)
    assert told == [[stride * time for time in times[:n]] for stride, n in ((4, 2), (2, 3), (1, 5))]
