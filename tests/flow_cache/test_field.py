import pytest
import torch

from flow_cache import FlowField


def field(n: int = 3, height: int = 4, width: int = 5) -> FlowField:
    flow = torch.arange(n * 2 * height * width).view(n, 2, height, width).float()
    return FlowField(flow=flow, visible=torch.ones(n, height, width, dtype=torch.bool))


def test_knows_its_size_and_length() -> None:
    assert field().size == (4, 5)
    assert len(field()) == 3
    assert "n=3, size=(4, 5)" in repr(field())


@pytest.mark.parametrize(("index", "start", "stop"), [(1, 1, 2), (-1, 2, 3), (slice(1, 3), 1, 3)])
def test_indexing_keeps_the_leading_dimension(index: int | slice, start: int, stop: int) -> None:
    whole = field()
    part = whole[index]
    assert torch.equal(part.flow, whole.flow[start:stop])
    assert part.visible.shape == (stop - start, 4, 5)


def test_refuses_an_index_beyond_the_end() -> None:
    with pytest.raises(IndexError):
        field()[3]


@pytest.mark.parametrize(
    ("flow", "visible", "complaint"),
    [
        (torch.zeros(2, 4, 5), torch.ones(2, 4, 5, dtype=torch.bool), "flow must be float32"),
        (torch.zeros(1, 3, 4, 5), torch.ones(1, 4, 5, dtype=torch.bool), "flow must be float32"),
        (torch.zeros(1, 2, 4, 5).double(), torch.ones(1, 4, 5, dtype=torch.bool), "float64"),
        (torch.zeros(1, 2, 4, 5), torch.ones(1, 5, 4, dtype=torch.bool), "visible must be bool"),
        (torch.zeros(1, 2, 4, 5), torch.ones(1, 4, 5), "visible must be bool"),
        (
            torch.zeros(1, 2, 4, 5),
            torch.ones(1, 4, 5, dtype=torch.bool, device="meta"),
            "flow is on cpu",
        ),
    ],
)
@pytest.mark.usefixtures("as_in_production")
def test_refuses_what_breaks_the_convention(
    flow: torch.Tensor, visible: torch.Tensor, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        FlowField(flow=flow, visible=visible)


def test_moves_flow_and_visibility_together() -> None:
    moved = field().to("meta")
    assert moved.flow.device == moved.visible.device == torch.device("meta")
