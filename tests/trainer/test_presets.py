import pytest

from trainer.config import TrainConfig
from trainer.presets import METHODS, PRESETS


def test_there_is_one_for_a_gpu_and_one_for_a_cpu() -> None:
    assert PRESETS["tiny"]().model.dim < PRESETS["small"]().model.dim


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_shuffles_and_supervises_at_its_full_rate(name: str) -> None:
    config = PRESETS[name]()
    assert config.fluxflow.dose(config.stream.frames) >= 1
    assert config.flow_loss.weight > 0
    assert config.pyramid.coarsest == 4
    assert config.checkpoint_clips <= config.clips


def of(config: TrainConfig) -> tuple[bool, bool, bool, bool]:
    """Which methods a run has: shuffles, supervised motion, the pyramid, a level for each slot."""
    shuffled, levelled = config.fluxflow.mode != "off", config.process.per_slot > 0
    return shuffled, config.flow_loss.weight > 0, config.pyramid.enabled, levelled


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("method", "has"),
    [
        ("baseline", (False, False, False, False)),
        ("fluxflow", (True, False, False, False)),
        ("flowloss", (False, True, False, False)),
        ("pyramid", (False, False, True, False)),
        ("fvdm", (False, False, False, True)),
        ("all", (True, True, True, True)),
    ],
)
def test_a_method_has_what_it_says(
    preset: str, method: str, has: tuple[bool, bool, bool, bool]
) -> None:
    base = PRESETS[preset]()
    found = METHODS[method](base)
    assert of(found) == has
    assert (found.model, found.optim, found.stream) == (base.model, base.optim, base.stream)


def test_every_method_is_listed() -> None:
    assert list(METHODS) == ["baseline", "fluxflow", "flowloss", "pyramid", "fvdm", "all"]
