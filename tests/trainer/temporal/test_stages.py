import math
from itertools import pairwise

import pytest

from trainer.config import PyramidConfig
from trainer.temporal.stages import stages


def test_the_default_stages() -> None:
    found = stages(PyramidConfig())
    assert [stage.number for stage in found] == [1, 2, 3]
    assert tuple(stage.stride for stage in found) == PyramidConfig().strides == (1, 2, 4)
    assert [stage.interval.end for stage in found] == [0, 0.5, 2]
    starts = [stage.interval.start for stage in found]
    assert starts == pytest.approx([0.70711, 2.82843, math.inf], abs=1e-5)


@pytest.mark.parametrize("ends", [(0.0,), (0.0, 0.3), (0.0, 0.3, 7.0)])
def test_every_start_is_where_renoising_the_coarser_end_leads(ends: tuple[float, ...]) -> None:
    found = stages(PyramidConfig(ends=ends))
    for finer, coarser in pairwise(found):
        assert finer.interval.start == pytest.approx(math.sqrt(2) * coarser.interval.end)
    assert found[-1].interval.start == math.inf


def test_without_a_pyramid_one_stage_has_all_noise_levels() -> None:
    (stage,) = stages(PyramidConfig(enabled=False))
    assert (stage.number, stage.stride) == (1, 1)
    assert (stage.interval.end, stage.interval.start) == (0, math.inf)
    assert PyramidConfig(enabled=False).coarsest == 1
