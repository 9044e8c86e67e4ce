import torch

from trainer.codec.codec import FrameRule
from trainer.codec.pixels import Pixels, to_signal, to_unit


def test_true_frames_come_back_to_the_last_bit() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_unit(to_signal(values)), values.float() / 255)
    assert to_signal(values).abs().max() < 1
    assert to_signal(values).mean() == 0


def test_as_a_codec_each_frame_is_its_own_latent() -> None:
    clips = torch.randint(0, 256, (2, 3, 3, 4, 5), dtype=torch.uint8)
    assert torch.equal(Pixels().encode(clips), to_signal(clips))
    assert torch.equal(Pixels().decode(to_signal(clips)), clips.float() / 255)
    assert Pixels().rule == FrameRule(factor=1, step=1, prefix=True, exact_first=True)
