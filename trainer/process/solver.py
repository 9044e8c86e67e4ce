"""Steps from a noise level to a lower one, the same for every process.

With q from the network, ε = (x − γq)/σ, and x' = γ'q + σ'ε, so x changes by Δγ·q + Δσ·ε. That is
DDIM's step, Euler's in EDM's σ, and Euler's in flow matching's t. The mean of the changes found at
both ends of a step is Heun's.
"""

import torch

from trainer.process.process import Clips, Coefficients, each


def change(x: Clips, q: Clips, here: Coefficients, there: Coefficients, at: Coefficients) -> Clips:
    """Δγ·q + Δσ·ε from `here` to `there`, with q found for x at the levels `at`, one of the two.

    Slots whose level stays, or is 0, do not move: x + change is then x to the last bit.
    """
    sigma = each(at.sigma)
    noise = (x - each(at.gamma) * q) / torch.where(sigma > 0, sigma, 1.0)
    moves = each(there.gamma - here.gamma) * q + each(there.sigma - here.sigma) * noise
    return torch.where(each((here.sigma != there.sigma) & (at.sigma > 0)), moves, 0.0)
