import math

import pytest
import torch

from shards.order import Cursor
from trainer.codec.pixels import to_signal
from trainer.process.pyramid import NoiseInterval
from trainer.stream.batch import Batch, Damage, FlowTargets
from trainer.temporal.plan import subsample, window
from trainer.temporal.stages import Stage


def test_a_batch_tells_when_its_slots_are_shown_and_gives_its_frames_as_the_signal() -> None:
    frames = torch.arange(2 * 4 * 3 * 8 * 8, dtype=torch.int64).remainder(256).byte()
    batch = Batch(
        frames=frames.reshape(2, 4, 3, 8, 8),
        levels=None,
        flow=None,
        stage=Stage(number=2, stride=2, interval=NoiseInterval(end=0.5, start=2.0)),
        plans=(subsample(window(0, 8), 2, 2), subsample(window(4, 8), 2, 2)),
        keys=("a", "b"),
        captions=(None, None),
        positions=(0, 1),
        cursor=Cursor(order={"seed": 0}),
    )
    assert len(batch) == 2
    assert batch.time.tolist() == [0, 2, 4, 6]
    assert batch.moved == 0
    assert batch.nbytes == frames.numel()
    assert torch.equal(batch.clean(), to_signal(batch.frames))


def batch_of(size: int, flow_rows: list[int]) -> Batch:
    flow = FlowTargets(
        rows=torch.tensor(flow_rows, dtype=torch.int64),
        slots=torch.arange(2 * len(flow_rows)).view(len(flow_rows), 1, 2),
        hops=torch.ones(len(flow_rows), 1, dtype=torch.int64),
        flow=torch.rand(len(flow_rows), 1, 2, 4, 4),
        visible=torch.ones(len(flow_rows), 1, 4, 4, dtype=torch.bool),
    )
    return Batch(
        frames=torch.arange(size, dtype=torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4),
        levels=torch.arange(2 * size).float().view(size, 2),
        flow=flow if flow_rows else None,
        stage=Stage(number=1, stride=1, interval=NoiseInterval(end=0.0, start=math.inf)),
        plans=tuple(window(row, 2) for row in range(size)),
        keys=tuple(f"k{row}" for row in range(size)),
        captions=(None,) * size,
        columns={"label": tuple(range(size))},
        positions=tuple(range(10, 10 + 3 * size, 3)),
        damaged=(Damage(key="bad", reason="torn", position=13),),
        cursor=Cursor(order={}, position=99),
    )


def test_a_batch_splits_into_what_it_was_made_of() -> None:
    whole = batch_of(6, [1, 2, 5])
    parts = whole.split(3)
    assert [part.keys for part in parts] == [("k0", "k1"), ("k2", "k3"), ("k4", "k5")]
    assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
    assert [part.positions for part in parts] == [(10, 13), (16, 19), (22, 25)]
    assert [part.columns["label"] for part in parts] == [(0, 1), (2, 3), (4, 5)]
    assert [len(part.damaged) for part in parts] == [1, 0, 0]
    assert all(part.cursor == whole.cursor for part in parts)
    assert whole.flow is not None
    for part, rows, held in zip(parts, ([1], [0], [1]), (0, 1, 2), strict=True):
        assert part.flow is not None
        assert part.flow.rows.tolist() == rows
        assert torch.equal(part.flow.flow, whole.flow.flow[held : held + 1])
        assert part.flow.flow.data_ptr() == whole.flow.flow[held].data_ptr(), "a view"
        assert torch.equal(part.flow.slots, whole.flow.slots[held : held + 1])


def test_parts_without_flow_have_none_and_parts_are_equal() -> None:
    first, second = batch_of(4, [2]).split(2)
    assert first.flow is None
    assert second.flow is not None
    assert [part.flow for part in batch_of(2, []).split(2)] == [None, None]
    with pytest.raises(ValueError, match="4 clips has no 3 equal parts"):
        batch_of(4, []).split(3)
