import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flow_cache import FlowField
from flow_cache.algebra import (
    compose,
    crop,
    flip,
    in_frame,
    length,
    resize,
    round_trip,
    targets,
    warp,
)

HEIGHT, WIDTH = 24, 36
# float32 coordinates of up to 36 px carry 4e-6 px of rounding, made larger by the flow's gradient
# and by the products of sampling; a thousandth of a pixel is a hundred times that.
TOLERANCE_PX = 1e-3


def grid(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """Pixel coordinates (x, y), [2, h, w]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y)).float()


def affine_field(matrix: Tensor, shift: Tensor) -> FlowField:
    """The motion p -> matrix p + shift, visible wherever it stays inside the frame."""
    flow = (torch.einsum("ij,jhw->ihw", matrix, grid()) + shift.view(2, 1, 1) - grid())[None]
    return FlowField(flow=flow, visible=in_frame(flow))


def translation(dx: float, dy: float) -> FlowField:
    return affine_field(torch.eye(2), torch.tensor([dx, dy]))


def between_centres(flow: Tensor) -> Tensor:
    """Where p + flow(p) has pixel centres on all sides; elsewhere the border answers."""
    x, y = targets(flow)
    return (x >= 0) & (x <= flow.shape[-1] - 1) & (y >= 0) & (y <= flow.shape[-2] - 1)


small = st.floats(-0.125, 0.125, width=32)
shifts = st.tuples(st.floats(-6, 6, width=32), st.floats(-6, 6, width=32)).map(torch.tensor)
matrices = st.lists(small, min_size=4, max_size=4).map(
    lambda values: torch.eye(2) + torch.tensor(values).view(2, 2)
)
motions = st.tuples(matrices, shifts)


def test_warp_by_whole_pixels_is_a_shift() -> None:
    image = torch.rand(1, 3, HEIGHT, WIDTH)
    warped = warp(image, translation(3, -2).flow)
    # p takes its value from p + (3, -2)
    torch.testing.assert_close(
        warped[:, :, 2:, :-3], image[:, :, :-2, 3:], atol=1e-4, rtol=0, check_stride=False
    )


def test_warp_samples_pixel_centres_bilinearly() -> None:
    # Bilinear sampling of the coordinates themselves gives the target position exactly.
    flow = torch.rand(2, 2, HEIGHT, WIDTH) * 4 - 2
    sampled = warp(grid().expand(2, -1, -1, -1), flow)
    inside = between_centres(flow)[:, None].expand(-1, 2, -1, -1)
    expected = torch.stack(targets(flow), 1)
    torch.testing.assert_close(sampled[inside], expected[inside], atol=1e-4, rtol=0)


def test_warp_on_a_single_row_of_pixels() -> None:
    row = torch.arange(5.0).view(1, 1, 1, 5)
    flow = torch.zeros(1, 2, 1, 5)
    flow[:, 0] = 1
    assert warp(row, flow).flatten().tolist() == [1, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("dx", "inside"), [(0.49, True), (0.51, False), (-0.49, True), (-0.51, False)]
)
def test_a_border_pixel_leaves_the_frame_when_its_centre_does(dx: float, inside: bool) -> None:
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0] = dx
    column = -1 if dx > 0 else 0
    assert in_frame(flow)[..., column].tolist() == [[inside] * 3]
    assert in_frame(flow).sum() == 12 - 3 * (not inside)
    assert torch.equal(in_frame(flow.flip(1).mT), in_frame(flow).mT)  # up and down alike


def test_in_frame_knows_no_numbers_as_outside() -> None:
    assert in_frame(torch.zeros(1, 2, 3, 4)).all()
    assert not in_frame(torch.full((1, 2, 3, 4), float("nan"))).any()


def noise(seed: int, sigma: float = 0.05) -> FlowField:
    """What an estimator finds of a picture that stands still."""
    random = torch.Generator().manual_seed(seed)
    flow = sigma * torch.randn(1, 2, HEIGHT, WIDTH, generator=random)
    return FlowField(flow=flow, visible=in_frame(flow))


def test_a_still_picture_stays_visible_to_its_border_through_all_arithmetic() -> None:
    chain = noise(0)
    for seed in range(1, 4):
        chain = compose(chain, noise(seed))
    assert chain.visible.all()
    for size in ((HEIGHT // 2, WIDTH // 2), (2 * HEIGHT, 2 * WIDTH), (30, 50)):
        assert resize(chain, size).visible.all()
    assert crop(chain, top=3, left=4, height=10, width=12).visible.all()
    assert flip(chain).visible.all()


@pytest.mark.parametrize("factor", [2, 3])
def test_resizing_keeps_what_leaves_the_frame(factor: int) -> None:
    # The frame covers half a pixel beyond its outermost centres at every size.
    field = translation(2.6, -1.6)
    larger = resize(field, (factor * HEIGHT, factor * WIDTH)).visible[0]
    for row in range(HEIGHT):
        block = larger[factor * row : factor * (row + 1)]
        assert block.any() == field.visible[0, row].any()


@given(first=motions, second=motions)
def test_affine_motions_compose_to_the_product(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> None:
    (a, s), (b, t) = first, second
    chained = compose(affine_field(a, s), affine_field(b, t))
    direct = affine_field(b @ a, b @ s + t)
    error = length(chained.flow - direct.flow)
    exact = error[chained.visible & between_centres(affine_field(a, s).flow)]
    assert exact.numel() == 0 or exact.max() <= TOLERANCE_PX
    # Up to half a pixel beyond the outermost centres, the border's motion goes on unchanged.
    beyond = error[chained.visible]
    assert beyond.numel() == 0 or beyond.max() <= 0.5 * 2**0.5 * (b - torch.eye(2)).norm() + 1e-3


@given(first=shifts, second=shifts)
def test_translations_add(first: Tensor, second: Tensor) -> None:
    chained = compose(translation(*first.tolist()), translation(*second.tolist()))
    expected = (first + second).view(1, 2, 1, 1).expand_as(chained.flow)
    torch.testing.assert_close(chained.flow, expected, atol=TOLERANCE_PX, rtol=0)


@given(motion=motions)
def test_composing_with_the_way_back_is_no_motion(motion: tuple[Tensor, Tensor]) -> None:
    matrix, shift = motion
    inverse = torch.linalg.inv(matrix)
    there, back = affine_field(matrix, shift), affine_field(inverse, -inverse @ shift)
    around = compose(there, back)
    inside = between_centres(there.flow)
    assert length(around.flow)[around.visible & inside].max() <= TOLERANCE_PX
    gap = length(round_trip(there.flow, back.flow))
    assert gap[inside].max() <= TOLERANCE_PX


def test_composition_over_the_border_is_marked_invalid() -> None:
    # Ten pixels and back: a chain that left the frame must not pass for no motion.
    around = compose(translation(10, 0), translation(-10, 0))
    assert not around.visible[..., -10:].any()
    assert around.visible[..., :-10].all()


def test_a_chain_once_hidden_stays_hidden() -> None:
    blind = FlowField(flow=translation(1, 0).flow, visible=torch.zeros(1, HEIGHT, WIDTH) > 0)
    assert not compose(blind, translation(-1, 0)).visible.any()
    assert not compose(translation(-1, 0), blind).visible.any()


def test_composition_follows_the_pixel_to_what_hides_it() -> None:
    visible = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    visible[0, 5, 9] = False
    covering = FlowField(flow=torch.zeros(1, 2, HEIGHT, WIDTH), visible=visible)
    chained = compose(translation(3, 1), covering)
    hidden = (~chained.visible[0, :-1, :-3]).nonzero().tolist()
    assert hidden == [[4, 6]]


def test_a_chain_that_lands_between_two_motions_is_marked_invalid() -> None:
    torn = translation(0, 0)
    torn.flow[:, 0, :, 18:] = 8
    chained = compose(translation(0.5, 0), torn)
    # Half of column 18's motion at 17.5 is the motion of nothing in the picture.
    assert not chained.visible[..., 17].any()
    torch.testing.assert_close(chained.flow[0, 0, 5, 17], torch.tensor(4.5))
    assert chained.visible[..., :17].all()
    assert chained.visible[..., 18:27].all()


@pytest.mark.parametrize("dx", [1900.25, -3000.5, 5999.75])
def test_a_large_motion_is_one_motion(dx: float) -> None:
    size = (2, 6400)
    shift = torch.tensor([dx, 0.0]).view(1, 2, 1, 1).expand(1, 2, *size)
    nudge = torch.tensor([0.3, 0.0]).view(1, 2, 1, 1).expand(1, 2, *size)
    whole = FlowField(flow=shift.contiguous(), visible=in_frame(shift))
    chained = compose(FlowField(flow=nudge.contiguous(), visible=in_frame(nudge)), whole)
    inside = in_frame(nudge) & in_frame(shift + nudge)
    kept = whole.visible & whole.visible.roll(-1, -1) & inside  # both neighbours are visible
    assert kept.sum() > 700
    assert chained.visible[kept].all()


def test_two_large_motions_are_still_two() -> None:
    torn = FlowField(flow=torch.zeros(1, 2, 4, 4000), visible=torch.ones(1, 4, 4000).bool())
    torn.flow[:, 0] = 1900
    torn.flow[:, 0, :, 1000:] = 1904
    nudge = torch.tensor([0.5, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4000).contiguous()
    chained = compose(FlowField(flow=nudge, visible=in_frame(nudge)), torn)
    assert not chained.visible[..., 999].any()
    assert chained.visible[..., 900:999].all()
    assert chained.visible[..., 1000:1100].all()


@pytest.mark.parametrize("size", [(24, 18), (24, 72), (30, 44), (12, 24)])
def test_a_resized_pixel_between_two_motions_is_hidden(size: tuple[int, int]) -> None:
    torn = translation(0, 0)
    torn.flow[:, 0, :, 17:] = -6
    resized = resize(torn, size)
    scale = size[1] / WIDTH
    moved = resized.flow[:, 0] / scale
    blended = (moved < -0.5) & (moved > -5.5)
    assert blended.any()
    assert not resized.visible[blended].any()
    assert resized.visible.float().mean() > 0.85


@given(motion=motions, size=st.tuples(st.integers(12, 48), st.integers(12, 60)))
def test_resizing_scales_an_affine_motion(
    motion: tuple[Tensor, Tensor], size: tuple[int, int]
) -> None:
    matrix, shift = motion
    resized = resize(affine_field(matrix, shift), size)
    assert resized.size == size
    # Outer frame edges coincide: old = (new + 0.5) / scale - 0.5.
    scale = torch.tensor([size[1] / WIDTH, size[0] / HEIGHT]).view(2, 1, 1)
    old = (grid(*size) + 0.5) / scale - 0.5
    moved = torch.einsum("ij,jhw->ihw", matrix, old) + shift.view(2, 1, 1) - old
    # Outside the outermost pixel centres there is nothing to interpolate between.
    inside = (old >= 0).all(0) & (old[0] <= WIDTH - 1) & (old[1] <= HEIGHT - 1)
    error = length(resized.flow - moved * scale)[0][inside]
    assert error.numel() == 0 or error.max() <= TOLERANCE_PX


@pytest.mark.parametrize("size", [(12, 18), (48, 72), (17, 50), (6, 9)])
def test_a_resized_pixel_is_hidden_if_any_of_its_area_was(size: tuple[int, int]) -> None:
    visible = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    visible[0, 10, 20] = False
    field = FlowField(flow=torch.zeros(1, 2, HEIGHT, WIDTH), visible=visible)
    resized = resize(field, size)
    y, x = int((10 + 0.5) * size[0] / HEIGHT), int((20 + 0.5) * size[1] / WIDTH)
    assert not resized.visible[0, y, x]
    assert resized.visible.float().mean() > 0.8


def test_resizing_to_the_same_size_changes_nothing() -> None:
    field = translation(1.5, -0.5)
    same = resize(field, field.size)
    torch.testing.assert_close(same.flow, field.flow)
    assert torch.equal(same.visible, field.visible)


def test_crop_keeps_vectors_and_hides_what_leaves_the_window() -> None:
    field = translation(4, 0)
    window = crop(field, top=3, left=5, height=10, width=12)
    assert window.size == (10, 12)
    assert torch.equal(window.flow, field.flow[:, :, 3:13, 5:17])
    assert window.visible[..., :-4].all()
    assert not window.visible[..., -4:].any()


@given(first=motions, second=motions)
def test_crop_of_a_chain_is_the_chain_of_crops(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> None:
    ab, bc = affine_field(*first), affine_field(*second)
    box = {"top": 4, "left": 6, "height": 16, "width": 24}
    chained = compose(crop(ab, **box), crop(bc, **box))
    cropped = crop(compose(ab, bc), **box)
    seen = chained.visible & between_centres(
        crop(ab, **box).flow
    )  # beyond, the window's edge answers
    assert (seen <= cropped.visible).all()  # a window sees less than the frame
    gap = length(chained.flow - cropped.flow)[seen]
    assert gap.numel() == 0 or gap.max() <= TOLERANCE_PX


@pytest.mark.parametrize(("top", "left", "height", "width"), [(-1, 0, 4, 4), (0, 30, 4, 7)])
def test_refuses_a_crop_outside_the_field(top: int, left: int, height: int, width: int) -> None:
    with pytest.raises(ValueError, match="does not lie inside"):
        crop(translation(0, 0), top=top, left=left, height=height, width=width)


@given(first=motions, second=motions)
def test_flip_of_a_chain_is_the_chain_of_flips(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> None:
    ab, bc = affine_field(*first), affine_field(*second)
    flipped, chained = flip(compose(ab, bc)), compose(flip(ab), flip(bc))
    both = flipped.visible & chained.visible
    # Rounding may decide differently for a pixel that ends on the border or half-way to it.
    assert (flipped.visible ^ chained.visible).float().mean() < 0.02
    gap = length(chained.flow - flipped.flow)[both]
    assert gap.numel() == 0 or gap.max() <= TOLERANCE_PX


def test_flipping_twice_changes_nothing() -> None:
    field = affine_field(torch.tensor([[1.1, 0.05], [-0.05, 0.9]]), torch.tensor([3.0, -2.0]))
    twice = flip(flip(field))
    assert torch.equal(twice.flow, field.flow)
    assert torch.equal(twice.visible, field.visible)


def test_flip_mirrors_pictures_and_motion_alike() -> None:
    image = torch.rand(1, 3, HEIGHT, WIDTH)
    field = translation(2.5, 1.25)
    mirrored = warp(image.flip(-1), flip(field).flow)
    torch.testing.assert_close(mirrored, warp(image, field.flow).flip(-1), atol=1e-4, rtol=0)


def test_gradients_reach_the_flow() -> None:
    flow = torch.full((1, 2, 8, 8), 0.25, requires_grad=True)
    warp(grid(8, 8)[None], flow).sum().backward()
    assert flow.grad is not None
    torch.testing.assert_close(flow.grad[..., 1:-1, 1:-1], torch.ones(1, 2, 6, 6))
