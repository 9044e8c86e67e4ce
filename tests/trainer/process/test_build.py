import math

import pytest

from trainer.config import ProcessConfig
from trainer.process.build import build_process
from trainer.process.ddim import Ddim
from trainer.process.edm import Edm
from trainer.process.flow_matching import FlowMatching
from trainer.process.laws import LogNormal, Timesteps, Uniform


def test_edm_has_its_papers_law() -> None:
    assert build_process(ProcessConfig()) == Edm(0.5, LogNormal(-1.2, 1.2, highest=80.0))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_is_logit_normal_or_uniform_with_a_shift(shift: float) -> None:
    normal = build_process(ProcessConfig(kind="flow", shift=shift))
    assert normal == FlowMatching(LogNormal(math.log(shift), 1.0, lowest=0.001))
    uniform = build_process(ProcessConfig(kind="flow", uniform=True, shift=shift))
    assert uniform == FlowMatching(Uniform(shift))


def test_ddim_has_a_thousand_timesteps() -> None:
    process = build_process(ProcessConfig(kind="ddim", predicts="velocity", betas="linear"))
    assert isinstance(process, Ddim)
    assert process.predicts == "velocity"
    assert isinstance(process.law, Timesteps)
    assert len(process.law.rungs) == 1000
    assert process.law.highest == pytest.approx(157.4, abs=0.1)
