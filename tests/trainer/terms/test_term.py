import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainer.terms.clips import pixels
from trainer.codec.pixels import to_signal, to_unit
from trainer.terms.term import Step


def made_step(**given) -> Step:
    clean = torch.randn(3, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return Step(**{"clean": clean.requires_grad_(), "levels": torch.ones(3, 2), **given})


def test_a_sample_is_decoded_when_it_is_asked_for_and_once() -> None:
    decoded: list[int] = []

    def decode(latents: Tensor) -> Tensor:
        decoded.append(len(latents))
        return to_unit(latents)

    step = made_step(decode=decode)
    assert decoded == []
    two, one = step.frames([0, 2]), step.frames([2])
    assert decoded == [2]
    assert torch.equal(two[1:], one)
    assert torch.equal(step.frames([0, 1, 2]), to_unit(step.clean))
    assert decoded == [2, 1]


def test_latents_may_hold_several_slots_and_pixels() -> None:
    """As a video autoencoder's do: 2 latents of 4x4 for 3 frames of 8x8."""
    true = torch.zeros(3, 3, 3, 8, 8, dtype=torch.uint8)

    def decode(latents: Tensor) -> Tensor:
        frames = latents.repeat_interleave(2, 1)[:, 1:]
        return frames.repeat_interleave(2, 3).repeat_interleave(2, 4)

    step = made_step(decode=decode, true=true, levels=torch.ones(3, 3))
    assert step.frames([0, 2]).shape == step.true_frames([0, 2]).shape == (2, 3, 3, 8, 8)


def test_gradients_reach_the_samples_that_are_shown() -> None:
    step = made_step()
    step.frames([1]).sum().backward()
    assert step.clean.grad is not None
    assert step.clean.grad.flatten(1).any(1).tolist() == [False, True, False]


def test_true_frames_are_those_that_flow_was_stored_of_to_the_last_bit() -> None:
    true = torch.from_numpy(np.arange(3 * 2 * 3 * 16, dtype=np.uint8).reshape(3, 2, 3, 4, 4))
    step = made_step(true=true)
    assert torch.equal(step.true_frames([0, 1, 2]), to_unit(to_signal(true)))
    assert torch.equal(pixels(to_signal(true)), true)
    still = step.still_frames([2, 0])
    assert torch.equal(still[:, 0], step.true_frames([2, 0])[:, 0])
    assert torch.equal(still[:, 1], still[:, 0])


def test_a_step_without_the_true_frames_says_so() -> None:
    with pytest.raises(ValueError, match="without the true frames"):
        made_step().true_frames([0])
