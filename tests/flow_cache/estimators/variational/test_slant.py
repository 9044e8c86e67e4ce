import torch
from torch import Tensor

from flow_cache.estimators.variational.constancy import DataTerm
from flow_cache.estimators.variational.relaxation import assemble, relax, smoothness
from flow_cache.estimators.variational.slant import at_twice, differences, measure

SIZE = (24, 40)
RATES = (0.2, -0.1, 0.05, 0.3)  # change of dx and dy along x, then along y


def plane(size: tuple[int, int] = SIZE) -> Tensor:
    """Flow [1, 2, h, w] that changes by RATES from pixel to pixel."""
    y, x = torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij")
    return torch.stack([RATES[0] * x + RATES[2] * y, RATES[1] * x + RATES[3] * y])[None]


def measured(flow: Tensor, outside: Tensor) -> Tensor:
    """After as many rounds as the solver has at a level."""
    slant = torch.zeros(1, 4, *flow.shape[-2:])
    for _ in range(3):
        slant = measure(flow, slant, smoothness(flow, slant), outside)
    return slant


def test_a_plane_has_the_same_slant_at_every_level() -> None:
    flow = plane()
    slant = measured(flow, torch.zeros(1, 1, *SIZE))
    torch.testing.assert_close(slant, differences(flow))
    fine = at_twice(slant, (47, 79))
    torch.testing.assert_close(fine[0, :, 5, 5], torch.tensor(RATES))
    assert fine[:, :2, :, -1].eq(0).all()
    assert fine[:, 2:, -1].eq(0).all()


def test_edges_and_what_leaves_the_frame_have_little_say() -> None:
    """A plain mean over 15 pixels would be 0.6 off at an edge of 9, more at the border."""
    flow = plane()
    flow[..., 20:] += 9
    outside = torch.zeros(1, 1, *SIZE)
    outside[..., 30:] = 1
    flow[..., 30:] = 0
    slant = measured(flow, outside)
    assert (slant - differences(plane()))[0, :, 4:-4, 4:36].abs().max() < 0.25


def test_smoothness_continues_a_plane_where_nothing_is_seen() -> None:
    """With a slant the unseen half goes on rising; without, it stays as it was at the border."""
    truth = plane()
    seen = torch.ones(1, 1, *SIZE)
    seen[..., 28:] = 0
    start = truth * seen
    start[..., 28:] = truth[..., 27:28]
    slant = differences(truth)
    data = DataTerm(
        pull_x=seen.expand(-1, 3, -1, -1),
        pull_y=seen.expand(-1, 3, -1, -1),
        a11=9 * seen,
        a12=0 * seen,
        a22=9 * seen,
    )
    errors = []
    for expected in (slant, None):
        system = assemble(data, start, expected)
        right_side = 9 * seen * truth
        if system.lean is not None:
            right_side = right_side + system.lean
        solved = relax(system, right_side, start, 400)
        errors.append((solved - truth)[..., 28:].square().sum(1).sqrt().mean())
    assert errors[0] < 0.1
    assert errors[1] > 0.5
