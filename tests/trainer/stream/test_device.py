"""Frames and flow that are decoded on the device are the host's, to the last bit."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Any, Literal

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from shards.clip_video import decode_planes, decode_rgb, encode_clip
from shards.store import UsageError
from trainer.config import (
    FlowLossConfig,
    ProcessConfig,
    PyramidConfig,
    StreamConfig,
    TrainConfig,
)
from trainer.stream.batch import Batch
from trainer.stream.device import Delivery, rgb_of
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import TrainRecipe

Place = Literal["host", "device"]
PLACES: tuple[Place, Place] = ("host", "device")
Loss = dict[str, Any]


def harsh(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Pictures that reach every limit: noise, and full colours side by side in all sizes."""
    random = np.random.default_rng(0)
    yield random.integers(0, 256, (3, *size))
    for grain in (1, 2, 3, 8):
        coarse = 255 * random.integers(0, 2, (3, *(-(-side // grain) for side in size)))
        yield coarse.repeat(grain, 1).repeat(grain, 2)[:, : size[0], : size[1]]


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (38, 50), (18, 246), (256, 18)])
def test_rgb_of_the_planes_is_that_of_the_host(size: tuple[int, int]):
    clip = np.stack([*harsh(size)]).astype(np.uint8)
    data = encode_clip(clip, Fraction(24), crf=0)
    rgb, planes = np.empty_like(clip), np.empty((len(clip), 3 * clip[0, 0].size // 2), np.uint8)
    decode_rgb(data, range(len(clip)), rgb)
    decode_planes(data, range(len(clip)), planes)
    found = rgb_of(torch.from_numpy(planes), size)
    np.testing.assert_array_equal(found.numpy(), rgb)
    nested = rgb_of(torch.from_numpy(planes)[None, :2], size)
    np.testing.assert_array_equal(nested[0].numpy(), rgb[:2])


def by_swscale(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [3, h, w] of planes [p] that no picture has."""
    stacked = planes.reshape(-1, size[1])  # h / 4 must be whole
    picture = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(stacked, format="yuv420p"),
        format="gbrp",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        interpolation=int(
            Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        ),
    )
    return picture.to_ndarray().transpose(2, 0, 1)


@pytest.mark.parametrize("grain", [1, 2, 5, 32])
@pytest.mark.parametrize("levels", [2, 256])
def test_planes_that_no_picture_has_become_what_the_host_makes_of_them(grain: int, levels: int):
    size, random = (128, 192), np.random.default_rng(0)
    parts = [
        random.integers(0, levels, (-(-h // grain), -(-w // grain)))
        .repeat(grain, 0)
        .repeat(grain, 1)[:h, :w]
        for h, w in (size, (64, 96), (64, 96))
    ]
    planes = np.concatenate([part.ravel() for part in parts]) * (255 // (levels - 1))
    found = rgb_of(torch.from_numpy(planes.astype(np.uint8)), size)
    np.testing.assert_array_equal(found.numpy(), by_swscale(planes.astype(np.uint8), size))


def test_frames_too_small_for_the_filters_are_refused():
    with pytest.raises(ValueError, match="8x32: on the device they are at least 16x16"):
        rgb_of(torch.zeros(384, dtype=torch.uint8), (8, 32))


def first_batches(made, on: Place, loss: Loss | None = None, **stream_config: Any) -> list[Batch]:
    """Of a stream that decodes frames and flow there."""
    small = {"frames": 8, "batch": 2, "window": 2, "threads": 2, "rgb_on": on, "flow_on": on}
    asked: Loss = {"psi": 0.4, **(loss or {})}
    config = TrainConfig(
        stream=StreamConfig(**small | stream_config),
        pyramid=PyramidConfig(enabled=True),
        process=ProcessConfig(per_slot=0.5),
        flow_loss=FlowLossConfig(**asked),
    )
    source = Source(dataset=made.dataset, layer=made.dataset.layer("variational"))
    stream = Stream(source, config.stream, TrainRecipe(config), seed=1)
    with closing(iter(stream)) as batches:
        return [*islice(batches, 6), stream[3]]


CUT = {"size": "37x31", "resize": False, "crop": "random", "flip": 0.5}
RESIZED = {"size": "32x24", "rgb_on": "host"}  # of frames the device resizes none


@pytest.mark.parametrize(
    ("space", "loss"),
    [({}, {}), (CUT, {}), (RESIZED, {"accept_resize": True}), (CUT, {"order": "composed"})],
)
def test_a_stream_gives_the_same_batches_wherever_it_decodes(made, space: dict, loss: Loss):
    on_host, on_device = (first_batches(made, place, loss, **space) for place in PLACES)
    hops = torch.cat([batch.flow.hops.flatten() for batch in on_host if batch.flow is not None])
    assert {0, 1} <= {*hops.tolist()}
    for ours, theirs in zip(on_host, on_device, strict=True):
        assert theirs.packed is None
        if ours.flow is not None:
            assert theirs.flow is not None
            for name in ("rows", "slots", "hops"):
                assert torch.equal(getattr(ours.flow, name), getattr(theirs.flow, name))
        assert torch.equal(ours.frames, theirs.frames)
        assert (ours.keys, ours.spaces) == (theirs.keys, theirs.spaces)
        for one, other in zip(ours.pixels(), theirs.pixels(), strict=True):
            assert torch.equal(one, other)


def test_pictures_are_not_resized_on_the_device(made):
    with pytest.raises(UsageError, match=r"does not resize them: use --stream.no-resize"):
        first_batches(made, "device", size="32x24")


def prepared_for(made, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[Batch]:
    """Batches as threads leave them for the device."""
    on_the_way, deliver = [], Delivery.__call__

    def note(self: Delivery, batch: Batch) -> Batch:
        on_the_way.append(batch)
        return deliver(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Delivery, "__call__", note)
        first_batches(made, "device", **settings)
    return on_the_way


def test_half_of_the_bytes_of_frames_are_prepared_for_the_device(made, monkeypatch):
    on_the_way, given = prepared_for(made, monkeypatch), first_batches(made, "device")
    for coming, batch in zip(on_the_way, given, strict=True):
        assert 2 * coming.frames.nbytes == batch.frames.nbytes
    assert given[0].frames.shape[2:] == (3, 48, 64)


def test_a_quarter_of_the_bytes_of_flow_travel_even_of_rough_scenes(made, monkeypatch):
    on_the_way, given = prepared_for(made, monkeypatch), first_batches(made, "device")
    packed = [batch.packed for batch in on_the_way if batch.packed is not None]
    whole = [tensor for batch in given if batch.flow for tensor in batch.flow.pixels()]
    assert all(batch.flow is None for batch in on_the_way)
    travels = [x for targets in packed for x in targets.to(torch.device("cpu")).pixels()]
    assert sum(x.nbytes for x in travels) < sum(x.nbytes for x in whole) / 4
    room = sum(x.nbytes for targets in packed for x in targets.pixels())
    assert room < sum(x.nbytes for x in whole), "of which the memory ahead is counted"


@pytest.mark.parametrize(
    ("space", "loss"), [(RESIZED, {"accept_resize": True}), ({}, {"order": "composed"})]
)
def test_what_interpolates_is_decoded_on_the_host(made, monkeypatch, space: dict, loss: Loss):
    """Every device rounds products and sums of a kernel as it likes."""
    on_the_way = prepared_for(made, monkeypatch, loss=loss, **space)
    whole = [batch for batch in on_the_way if batch.flow is not None]
    assert whole
    for batch in on_the_way:
        assert batch.packed is None or batch.packed.hops.max() == 1
        assert batch.packed is None or not any(space and space.resizes for space in batch.spaces)


def test_packed_flow_reaches_the_device_and_what_was_decided_stays(made, monkeypatch):
    """No GPU is needed to see that: the device without memory takes it."""
    coming = next(batch for batch in prepared_for(made, monkeypatch) if batch.packed is not None)
    delivered = Delivery(torch.device("meta"), (48, 64), packed=True)(coming)
    assert coming.packed is not None
    assert delivered.packed is None
    assert delivered.flow is not None
    assert [tensor.device.type for tensor in delivered.flow.pixels()] == ["meta"] * 2
    assert delivered.flow.flow.shape == (*coming.packed.hops.shape, 2, 48, 64)
    assert delivered.flow.hops is coming.packed.hops


def test_pixels_and_flow_reach_the_device_and_what_was_decided_stays(made):
    """No GPU is needed to see that: the device without memory takes them."""
    batch = next(batch for batch in first_batches(made, "host") if batch.flow is not None)
    delivered = Delivery(torch.device("meta"), (48, 64))(batch)
    assert [tensor.device.type for tensor in delivered.pixels()] == ["meta"] * 3
    assert delivered.levels is batch.levels
    assert batch.flow is not None
    assert delivered.flow is not None
    assert delivered.flow.hops is batch.flow.hops


class FakeGpu:
    """Notes what is asked of it, where no GPU is at hand to do it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream(self, "side"))
        current = FakeStream(self, "current")
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
        monkeypatch.setattr(torch.cuda, "Event", lambda *, enable_timing: FakeEvent(self))
        self.now_ms = 0.0
        self.done = 0  # events that it has passed
        self.events = 0


class FakeEvent:
    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu

    def record(self) -> None:
        self.at_ms, self.gpu.events = self.gpu.now_ms, self.gpu.events + 1
        self.number = self.gpu.events

    def query(self) -> bool:
        return self.number <= self.gpu.done

    def elapsed_time(self, end: "FakeEvent") -> float:
        return end.at_ms - self.at_ms


class FakeStream(AbstractContextManager[None]):
    def __init__(self, gpu: FakeGpu, name: str) -> None:
        self.gpu, self.name = gpu, name

    def __enter__(self) -> None:
        self.gpu.asked.append(f"{self.name} begins")

    def __exit__(self, *_: object) -> None:
        self.gpu.asked.append(f"{self.name} ends")

    def wait_stream(self, other: "FakeStream") -> None:
        self.gpu.asked.append(f"{self.name} waits for {other.name}")


def test_on_a_gpu_copies_run_aside_and_what_follows_waits_for_them(
    made, monkeypatch: pytest.MonkeyPatch
):
    batch, gpu = first_batches(made, "host")[0], FakeGpu(monkeypatch)

    def copy(self: Batch, device: torch.device) -> Batch:
        gpu.asked.append(f"copies to {device}")
        return self

    monkeypatch.setattr(Batch, "to", copy)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda self, stream: gpu.asked.append(f"is {stream.name}'s")
    )
    assert Delivery(torch.device("cuda"), (48, 64))(batch) is batch
    held = ["is current's"] * len(batch.pixels())
    copied = ["side begins", "copies to cuda", "side ends"]
    assert gpu.asked == [*copied, "current waits for side", *held]


def test_a_gpu_s_own_clock_times_the_copies_and_nobody_waits_for_it(
    made, monkeypatch: pytest.MonkeyPatch
):
    batch, gpu = first_batches(made, "host")[0], FakeGpu(monkeypatch)

    def copy(self: Batch, device: torch.device) -> Batch:
        gpu.now_ms += 250
        return replace(self, seconds={})

    monkeypatch.setattr(Batch, "to", copy)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    deliver, told = Delivery(torch.device("cuda"), (48, 64)), []
    for done in (0, 2, 3, 8):  # of events, of which each batch has two
        gpu.done = done
        told.append(deliver(batch).seconds["gpu"])
    assert told == [0, 0.25, 0, 0.75]
