from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from flow_cache.estimators.network import BATCH, clip_by_pairs, frozen, pad, predict_pairs


def shift(first: Tensor, second: Tensor) -> Tensor:
    """Stands for a network: the difference of two images' channels as flow."""
    return (second - first)[:, :2]


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_frozen_models_pass_gradients_and_take_none() -> None:
    model = frozen(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Dropout()))
    image = images(1).requires_grad_()
    model(image).sum().backward()
    assert image.grad is not None
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(model(image), model(image)), "dropout is off"


def test_pairs_run_alone_on_a_cpu() -> None:
    sizes = []

    def predict(first: Tensor, second: Tensor) -> Tensor:
        sizes.append(len(first))
        return shift(first, second)

    first, second = images(6).split(3)
    assert torch.equal(predict_pairs(predict, first, second, "float32"), shift(first, second))
    assert sizes == [1, 1, 1]
    assert predict_pairs(predict, first[:0], second[:0], "float32").shape == (0, 2, 4, 5)


@pytest.mark.parametrize(
    ("gradient", "sizes"), [(False, [BATCH, BATCH, 1]), (True, [2 * BATCH + 1])]
)
def test_a_gpu_takes_batches_and_with_a_gradient_one(
    gradient: bool, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On shapes alone. What a gradient needs is kept of every part: to split it saves nothing."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    seen = []

    def predict(first: Tensor, second: Tensor) -> Tensor:
        seen.append(len(first))
        return shift(first, second)

    first, second = (images(2 * BATCH + 1).to("meta") for _ in range(2))
    flow = predict_pairs(predict, first, second.requires_grad_(gradient), "float32")
    assert (seen, len(flow)) == (sizes, 2 * BATCH + 1)


def test_a_reduced_precision_reaches_the_network_and_flow_stays_float32() -> None:
    weight = torch.rand(2, 3, 1, 1)
    seen = []

    def predict(first: Tensor, second: Tensor) -> Tensor:
        flow = torch.nn.functional.conv2d(second - first, weight)
        seen.append(flow.dtype)
        return flow

    first, second = images(2).split(1)
    for precision in ("float32", "bfloat16"):
        assert predict_pairs(predict, first, second, precision).dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16]


def test_long_clips_go_in_portions_of_float_images() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (4, 3, 4, 5), dtype=torch.uint8, generator=generator)
    pairs = [(i % 4, (i + 1) % 4) for i in range(2 * BATCH + 1)]
    sizes = []

    def pair(first: Tensor, second: Tensor) -> Tensor:
        sizes.append(len(first))
        return shift(first, second)

    flow = clip_by_pairs(pair, frames, pairs)
    assert sizes == [BATCH, BATCH, 1]
    for (i, j), one in zip(pairs, flow, strict=True):
        assert torch.equal(one, (frames[j].float() / 255 - frames[i].float() / 255)[:2])
    assert clip_by_pairs(pair, frames, []).shape == (0, 2, 4, 5)


def test_pad() -> None:
    image = torch.arange(30.0).view(1, 1, 5, 6)
    padded, inside = pad(image, 4, 4)
    assert padded.shape[-2:] == (8, 8)
    assert torch.equal(padded[..., *inside], image)
    assert pad(image, 1, 12)[0].shape[-2:] == (12, 12)
    assert pad(image[..., :4, :4], 4, 4)[0].shape[-2:] == (4, 4)
