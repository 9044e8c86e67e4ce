import torch

from shards import Cursor
from trainer.codec.pixels import to_signal
from trainer.process.pyramid import NoiseInterval
from trainer.stream.batch import Batch
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
