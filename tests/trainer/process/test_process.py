import numpy as np
import torch
from torch import Tensor

from trainer.process.edm import Edm
from trainer.process.laws import LogNormal
from trainer.process.process import denoise

EDM = Edm(0.5, LogNormal(-1.2, 1.2))


def test_each_slot_is_denoised_at_its_own_level() -> None:
    clip, time = torch.randn(2, 3, 1, 2, 2), torch.arange(3.0)
    levels = torch.tensor([[0.1, 0.1, 0.1], [0.1, 2.0, 0.5]])

    def network(x: Tensor, told: Tensor, time: Tensor, context: None) -> Tensor:
        return x * told[:, :, None, None, None]

    whole = denoise(network, clip, EDM.coefficients(levels), time)
    for (row, slot), level in np.ndenumerate(levels.numpy()):
        part = clip[row, slot][None, None]
        at = EDM.coefficients(torch.full((1, 1), float(level)))
        alone = denoise(network, part, at, time[:1])
        torch.testing.assert_close(whole[row, slot], alone[0, 0])
