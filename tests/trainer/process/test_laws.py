import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.process.ddim import ladder
from trainer.process.laws import Law, LogNormal, Timesteps, Uniform, parts

LAWS: list[Law] = [
    LogNormal(-1.2, 1.2, highest=80.0),
    LogNormal(0.0, 1.0),
    Uniform(),
    Uniform(shift=3.0),
    Timesteps(tuple(ladder("scaled_linear").tolist())),
]
STAGES = [(0.0, 0.5 * math.sqrt(2)), (0.5, 2 * math.sqrt(2)), (2.0, math.inf)]
SHARES = [(i + 0.5) / 2000 for i in range(2000)]


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_level_and_share_are_inverse(law: Law) -> None:
    steps = 1000 if isinstance(law, Timesteps) else 1e9
    for share in SHARES:
        assert law.below(law.level(share)) == pytest.approx(share, abs=1.001 / steps)
    assert law.below(0) == 0
    assert law.below(math.inf) == 1


def test_the_logit_normal_law_is_the_lognormal_of_levels() -> None:
    """ln(t/(1 − t)) = ln ρ, and a shift of 3 adds ln 3 to it."""
    plain, shifted = Uniform().level(0.25), Uniform(shift=3).level(0.25)
    assert plain / (1 + plain) == pytest.approx(0.25)
    t = shifted / (1 + shifted)
    assert t == pytest.approx(3 * 0.25 / (1 + 2 * 0.25))


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_stages_together_follow_the_law_itself(law: Law) -> None:
    """Where two overlap each has half; taking all of its own, as the wrong version does, the
    overlaps come twice as often."""
    found = parts(law, STAGES)
    assert sum(part.odds for part in found) == pytest.approx(1)
    for level in (0.1, 0.5, 0.6, 0.75, 2.0, 2.5, 5.0):
        shares = [np.mean([part.level(share) < level for share in SHARES]) for part in found]
        assert shares == pytest.approx([part.below(level) for part in found], abs=2e-3)
        below = sum(part.odds * share for part, share in zip(found, shares, strict=True))
        assert below == pytest.approx(law.below(level), abs=2e-3)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("law", LAWS, ids=str)
def test_each_stage_stays_in_its_interval(law: Law, shared: bool) -> None:
    for part, (end, start) in zip(parts(law, STAGES, shared=shared), STAGES, strict=True):
        drawn = [part.level(share) for share in (*SHARES, 0.0, 1 - 2**-53)]
        assert all(end * (1 - 1e-9) <= level <= start * (1 + 1e-9) for level in drawn)
        assert all(0 < level < math.inf for level in drawn)
        assert all(low >= high for low, high in pairwise(drawn[:-2][::1]))


def test_a_part_of_its_own_is_the_law_cut_to_the_interval() -> None:
    law = LAWS[0]
    part = parts(law, STAGES, shared=False)[1]
    low, high = law.below(0.5), law.below(2 * math.sqrt(2))
    for share in SHARES:
        assert law.below(part.level(share)) == pytest.approx(high - share * (high - low), abs=1e-9)


@given(mean=st.floats(-3, 3), std=st.floats(0.2, 3), psi=st.sampled_from([0.25, 0.5, 1, 2, 5]))
def test_the_share_below_a_level_is_the_normal_s(mean: float, std: float, psi: float) -> None:
    law = LogNormal(mean, std)
    part = parts(law, [(0.0, math.inf)])[0]
    share = np.mean([part.level(share) < psi for share in SHARES[::20]])
    assert share == pytest.approx(law.below(psi), abs=0.011)


@pytest.mark.parametrize(
    ("prior", "psi", "share"),
    [
        ((-1.2, 1.2), 0.5, 0.664),
        ((-1.2, 1.2), 1, 0.841),
        ((0.5, 1.4), 1, 0.361),
        ((0.5, 1.4), 5, 0.786),
        ((0.7, 1.6), 2, 0.498),
    ],
)
def test_share_of_samples_below_the_gate(
    prior: tuple[float, float], psi: float, share: float
) -> None:
    assert LogNormal(*prior).below(psi) == pytest.approx(share, abs=0.0006)
