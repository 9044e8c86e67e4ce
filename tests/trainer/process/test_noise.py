import pytest
import torch

from trainer.process.noise import noise_like


def test_noise_belongs_to_the_position() -> None:
    whole = noise_like(torch.empty(4, 2, 3), seed=5, positions=range(8, 12))
    again = noise_like(torch.empty(2, 2, 3), seed=5, positions=[11, 9])
    assert torch.equal(again, whole[[3, 1]])
    assert not torch.equal(whole, noise_like(torch.empty(4, 2, 3), seed=6, positions=range(8, 12)))
    others = noise_like(torch.empty(4, 2, 3), seed=5, positions=range(8, 12), purpose="start")
    assert not torch.equal(whole, others)
    many = noise_like(torch.empty(50, 2000), seed=0, positions=range(50))
    assert abs(many.mean().item()) < 5 / many.numel() ** 0.5
    assert many.var().item() == pytest.approx(1, abs=5 * (2 / many.numel()) ** 0.5)
