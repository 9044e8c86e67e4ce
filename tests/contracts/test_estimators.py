"""What every estimator that needs no download must hold; a new one is one line in ESTIMATORS."""

import json
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from flow_cache.estimators import FlowEstimator, load_estimator

ESTIMATORS = [
    ("dis", {}),
    ("dis", {"preset": "ultrafast"}),
    ("dis", {"preset": "fast"}),
    ("variational", {}),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Pictures here are small: more threads only wait for each other."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture(params=ESTIMATORS, ids=lambda p: "-".join([p[0], *p[1].values()]))
def estimator(request: pytest.FixtureRequest) -> FlowEstimator:
    name, params = request.param
    return load_estimator(name, **params)


def moving_texture(frames: int = 4, size: tuple[int, int] = (64, 96), step=(2, 1)) -> torch.Tensor:
    """uint8 [t, 3, h, w]: a smooth random texture that moves by `step` = (dx, dy) a frame."""
    margin = frames * max(step)
    noise = np.random.default_rng(0).random((size[0] + margin, size[1] + margin, 3))
    canvas = cv2.GaussianBlur(noise, (0, 0), 1.5)
    canvas = (255 * (canvas - canvas.min()) / np.ptp(canvas)).astype(np.uint8)
    crops = []
    for t in range(frames):
        top, left = margin - t * step[1], margin - t * step[0]
        crops.append(canvas[top : top + size[0], left : left + size[1]])
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def test_describes_itself(estimator: FlowEstimator) -> None:
    again = load_estimator(estimator.name, **json.loads(json.dumps(estimator.params)))
    assert again.params == estimator.params
    assert again.revision == estimator.revision != ""


def test_shapes_and_known_motion(estimator: FlowEstimator) -> None:
    frames = moving_texture()
    flow, visible = estimator.clip(frames, [(0, 1), (1, 0), (0, 2)])
    assert flow.shape == (3, 2, 64, 96)
    assert flow.dtype == torch.float32
    assert visible is None
    inner = flow[..., 12:-12, 12:-12].mean((-2, -1))
    truth = torch.tensor([[2.0, 1.0], [-2.0, -1.0], [4.0, 2.0]])
    torch.testing.assert_close(inner, truth, atol=0.25, rtol=0)


def test_no_pairs(estimator: FlowEstimator) -> None:
    assert estimator.clip(moving_texture(2), [])[0].shape == (0, 2, 64, 96)


def test_identical_frames_have_zero_flow(estimator: FlowEstimator) -> None:
    frames = moving_texture(2)
    flow, _ = estimator.clip(frames, [(0, 0), (0, 1), (1, 1)])
    assert flow[[0, 2]].eq(0).all()
    assert flow[1].ne(0).any()


def test_batch_does_not_matter(estimator: FlowEstimator) -> None:
    frames = moving_texture(17, size=(60, 75))
    pairs = [(i, i + 1) for i in range(16)]
    together, _ = estimator.clip(frames, pairs)
    for pair, flow in zip(pairs, together, strict=True):
        assert torch.equal(estimator.clip(frames[list(pair)], [(0, 1)])[0][0], flow)


def test_threads_do_not_matter(estimator: FlowEstimator) -> None:
    frames = moving_texture(3, size=(130, 210))
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        results.append(estimator.clip(frames, [(0, 1), (0, 2)])[0])
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_pair_equals_clip(estimator: FlowEstimator) -> None:
    frames = moving_texture(3)
    floats = frames.float() / 255
    flow, _ = estimator.clip(frames, [(0, 1), (2, 1)])
    assert torch.equal(estimator.pair(floats[[0, 2]], floats[[1, 1]]), flow)


def test_gradient_reaches_both_frames_where_promised(estimator: FlowEstimator) -> None:
    first, second = (x.requires_grad_() for x in (moving_texture(2).float() / 255).split(1))
    flow = estimator.pair(first, second)
    assert flow.requires_grad == estimator.differentiable
    if estimator.differentiable:
        for gradient in torch.autograd.grad(flow.square().mean(), (first, second)):
            assert gradient.isfinite().all()
            assert gradient.ne(0).any()


def test_unsuitable_size(estimator: FlowEstimator) -> None:
    estimator.check_size((32, 32))
    assert estimator.clip(moving_texture(2, (32, 32)), [(0, 1)])[0].isfinite().all()
    with pytest.raises(ValueError, match="8x64 are too small"):
        estimator.check_size((8, 64))


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"'optic'; choose one of dis"):
        load_estimator("optic")
    with pytest.raises(ValueError, match="no parameter speed"):
        load_estimator("dis", speed=3)
    with pytest.raises(ValueError, match="preset 'slow'"):
        load_estimator("dis", preset="slow")
