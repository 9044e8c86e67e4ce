import pytest

from trainer.presets import PRESETS


def test_there_is_one_for_a_gpu_and_one_for_a_cpu() -> None:
    assert PRESETS["tiny"]().model.dim < PRESETS["small"]().model.dim


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_shuffles_and_supervises_at_its_full_rate(name: str) -> None:
    config = PRESETS[name]()
    assert config.fluxflow.dose(config.stream.frames) >= 1
    assert config.flow_loss.weight > 0
    assert config.pyramid.coarsest == 4
    assert config.checkpoint_every <= config.steps
