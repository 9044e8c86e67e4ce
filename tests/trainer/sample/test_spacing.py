"""Levels of steps, held against the schedulers of diffusers."""

import math

import numpy as np
import pytest
from diffusers import DDIMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from trainer.config import ProcessConfig
from trainer.process.ddim import ladder
from trainer.sample.spacing import spaced

KINDS = {kind: ProcessConfig(kind=kind) for kind in ("edm", "flow", "ddim")}


def test_edm_is_that_of_diffusers_and_of_the_paper() -> None:
    theirs = EDMEulerScheduler()
    theirs.set_timesteps(18)
    ours = spaced(KINDS["edm"], math.inf, 0.0, 18)
    np.testing.assert_allclose(ours, theirs.sigmas.numpy(), rtol=1e-5)
    assert (ours[0], ours[-2], ours[-1]) == (80.0, 0.002, 0.0)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_is_uniform_in_t_before_the_shift(shift: float) -> None:
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / 10, 10).tolist())
    ours = spaced(ProcessConfig(kind="flow", shift=shift), math.inf, 0.0, 10)
    assert ours[0] == math.inf
    np.testing.assert_allclose(ours[1:] / (1 + ours[1:]), theirs.sigmas[1:].numpy(), atol=1e-6)


def test_ddim_is_diffusers_trailing_timesteps() -> None:
    theirs = DDIMScheduler(timestep_spacing="trailing")
    theirs.set_timesteps(20)
    ours = spaced(KINDS["ddim"], math.inf, 0.0, 20)
    np.testing.assert_allclose(ours[:-1], ladder("scaled_linear")[theirs.timesteps])
    assert ours[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "end"), [(math.inf, 2.0), (2 * math.sqrt(2), 0.5), (0.7, 0.0)])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_stages_begin_and_end_where_they_say(
    kind: str, start: float, end: float, steps: int
) -> None:
    path = spaced(KINDS[kind], start, end, steps)
    highest = {"edm": 80.0, "flow": math.inf, "ddim": ladder("scaled_linear")[-1].item()}[kind]
    assert len(path) == steps + 1
    assert (path[0], path[-1]) == (min(start, highest), end)
    assert np.all(np.diff(path) < 0)
