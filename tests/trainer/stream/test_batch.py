import torch

from trainer.stream.batch import to_signal, to_unit


def test_true_frames_come_back_to_the_last_bit() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_unit(to_signal(values)), values.float() / 255)
    assert to_signal(values).abs().max() < 1
    assert to_signal(values).mean() == 0
