"""The world of which all is known, what is said of clips of it, and a training on it."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.codec.pixels import Pixels

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def few(judge: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    monkeypatch.setattr(judge, "JUDGED", 2)
    monkeypatch.setattr(judge, "AT_ONCE", 2)
    truth: Tensor = judge.truths()
    return truth


def test_a_disc_moves_straight_and_is_reflected() -> None:
    sprites = script("sprites")
    clips = torch.from_numpy(np.stack([sprites.scene(seed) for seed in range(6)]))
    track = sprites.track(clips.permute(0, 1, 4, 2, 3) / 255)
    paths = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rng.integers(100, 256, (4, 4, 3))  # the texture is drawn first
        paths.append(sprites.path(rng))
    offset = track.centre - np.stack(paths)
    assert np.abs(offset - offset.mean(axis=1, keepdims=True)).max() < 0.1  # of its texture
    assert np.abs(track.area - 1).max() < 0.15


def test_true_clips_are_right_in_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = script("methods_judge")
    truth = few(judge, monkeypatch)
    figures = judge.of_free(truth, truth) | judge.of_continued(truth, truth)
    assert figures == {
        "speed": 0, "accel": 0, "motion": 1, "whole": 1, "flicker": 1, "drift": 0, "psnr": 80,
    }  # fmt: skip


def test_frozen_lost_and_jumping_discs_are_told_from_moving_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = script("methods_judge")
    truth = few(judge, monkeypatch)
    frozen = truth[:, 1:2].expand_as(truth)
    assert judge.of_continued(frozen, truth)["drift"] == 1
    assert judge.of_free(frozen, truth)["motion"] == 0
    dark = torch.full_like(truth, 32)
    assert judge.of_continued(dark, truth)["drift"] == 1
    assert judge.of_free(dark, truth)["whole"] == 0
    assert np.isnan(judge.of_free(dark, truth)["speed"])
    shuffled = truth[:, torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    assert judge.of_free(shuffled, truth)["accel"] > 1


def test_one_call_foresees_by_the_known_frames_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the highest level, too, a clip would show through its noise."""
    judge = script("methods_judge")
    truth, given = few(judge, monkeypatch), []

    class Heard(torch.nn.Module):
        def forward(self, x: Tensor, *_: object) -> Tensor:
            given.append(x)
            return x

    trained = SimpleNamespace(network=Heard(), codec=Pixels())
    monkeypatch.setattr(judge, "load_trained", lambda *_, **__: trained)
    for other in (truth, torch.cat([truth[:, :2], 255 - truth[:, 2:]], dim=1)):
        monkeypatch.setattr(judge, "truths", lambda other=other: other)
        judge.foreseen(Path(), script("methods").BASE)
    assert torch.equal(*given)


def runs(*figures: float, arm: str) -> list[dict[str, Any]]:
    return [{"arm": arm, "seed": seed, "val": value} for seed, value in enumerate(figures)]


def test_effects_are_of_one_seed_each_and_seen_only_beyond_chance() -> None:
    """Seeds differ by far more than the arms do."""
    table = script("methods_table")
    results = [
        *runs(1.0, 2.0, 3.0, arm="base"),
        *runs(0.90, 1.91, 2.89, arm="better"),
        *runs(1.3, 1.9, 2.9, arm="chance"),
    ]
    beside = dict.fromkeys(("base", "better", "chance"), "base")
    found = table.cells(results, beside)
    better, chance = found["better"]["val"], found["chance"]["val"]
    assert better.effect == pytest.approx(-0.1)
    assert better.seen
    assert table.better("val", better)
    assert not chance.seen
    assert better.least < 0.1 < chance.least
    assert "**+**" in "\n".join(table.lines(found))
    assert not found["base"]["val"].effects


def test_the_network_is_told_each_slots_level_and_how_far_apart_slots_are() -> None:
    torch.manual_seed(0)
    network = script("sprite_net").SpriteNet(fine=4, dim=8, depth=1)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # some begin as zero
    x, levels, time = torch.randn(1, 4, 3, 8, 8), torch.ones(1, 4), torch.arange(4.0)
    said = network(x, levels, time)
    other = network(x, levels + torch.tensor([[0, 0, 0, 5.0]]), time)
    changed = (said - other).abs().mean(dim=(0, 2, 3, 4))
    assert changed[3] > changed[:3].max()
    assert not torch.equal(said, network(x, levels, 2 * time))


def test_arms_train_and_are_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of few steps, one that starts from it, one that only samples otherwise."""
    methods, judge = script("methods"), script("methods_judge")
    few(judge, monkeypatch)
    monkeypatch.setattr(judge, "STEPS", 2)
    monkeypatch.setattr(methods, "CURVE", (2,))
    monkeypatch.setattr(methods, "SCENES", (4, 3))
    kept = replace(methods.BASE.validation, share=0.5, clips=2, levels=2)
    monkeypatch.setattr(methods, "BASE", replace(methods.BASE, validation=kept))
    arms = "two given, flowloss 1 psi 10;+ frame 2x1;baseline, replaced;pyramid, renoise none"
    asked = ["--out", str(tmp_path), "--arms", arms, "--seeds", "0", "--steps", "4"]
    results = methods.main(asked)
    names = {path.parent.name for path in tmp_path.glob("runs/*/figures.json")}
    assert {"baseline-4-0", "pyramid-4-0", "+_frame_2x1-4-0"} < names
    assert [*results[0]["curve"]] == ["2"]
    judged = [result for result in results if "val" in result]
    assert len(judged) == 2  # stages of a pyramid have losses of their own
    assert all(np.isfinite(result["val"]) for result in judged)
    monkeypatch.setattr(methods, "train", None)  # what is done is not done again
    assert methods.main(asked) == results
    page = script("methods_page")
    monkeypatch.setattr(page, "LEAST_SEEDS", 1)
    collected = page.collect(tmp_path, 4)
    assert len(collected["runs"]) == len(names)
    assert json.loads(json.dumps(collected)) == collected


@pytest.mark.slow
def test_three_hundred_steps_learn_of_the_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of clips from videos never trained on; before training it is 1."""
    methods = script("methods")
    few(script("methods_judge"), monkeypatch)
    monkeypatch.setattr(methods, "SCENES", (8, 12))
    kept = replace(methods.BASE.validation, share=0.3, clips=8, levels=3)
    monkeypatch.setattr(methods, "BASE", replace(methods.BASE, validation=kept))
    asked = ["--out", str(tmp_path), "--arms", "flowloss 0.02", "--seeds", "0", "--steps", "300"]
    (found,) = methods.main(asked)
    assert found["val"] < 0.8


def test_the_page_says_what_the_committed_runs_came_to() -> None:
    page = script("methods_page")
    results = json.loads(page.RESULTS.read_text())
    text = page.PAGE.read_text()
    assert page.filled(text, page.blocks(results)) == text
    assert len({run["seed"] for run in results["runs"]}) >= 5
