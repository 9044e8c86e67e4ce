"""Names, types, layouts and ranges are those that each trainer's own dataset gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from shards.order import Cursor
from shards.store import UsageError
from trainer.adapters.samples import cosmos, diffsynth, finetrainers, open_sora, videox_fun
from trainer.stream.batch import Batch
from trainer.temporal.plan import subsample, window
from trainer.temporal.recipe import PlainRecipe


def batch_of(
    clips: int, frames: int = 9, stride: int = 1, size: tuple[int, int] = (16, 32)
) -> Batch:
    """Noise in which every byte occurs."""
    shape = (clips, frames, 3, *size)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    plan = subsample(window(0, frames * stride), stride, 1)
    return Batch(
        frames=torch.from_numpy(pixels),
        levels=None,
        flow=None,
        stage=PlainRecipe(frames, stride).group(0),
        plans=(plan,) * clips,
        keys=tuple(f"clip-{n}" for n in range(clips)),
        captions=("A dog.", None, "A cat.", "")[:clips],
        positions=tuple(range(clips)),
        cursor=Cursor(order={}),
    )


def normalised(frames: torch.Tensor) -> torch.Tensor:
    """As ToTensor and Normalize(0.5, 0.5) of torchvision."""
    return (frames / 255 - 0.5) / 0.5


def check_pixels(found: torch.Tensor, frames: torch.Tensor) -> None:
    assert (found.dtype, found.is_contiguous()) == (torch.float32, True)
    assert (found.min(), found.max()) == (-1, 1)
    torch.testing.assert_close(found, normalised(frames), rtol=0, atol=2e-7)


def test_videox_fun_takes_time_before_channels_and_a_list_of_texts():
    batch = batch_of(3)
    found = videox_fun(batch, text_drop_ratio=0)
    assert found.keys() == {"pixel_values", "text"}
    assert found["pixel_values"].shape == (3, 9, 3, 16, 32)
    check_pixels(found["pixel_values"], batch.frames)
    assert found["text"] == ["A dog.", "", "A cat."]


def test_videox_fun_drops_its_share_of_texts_by_position():
    many = batch_of(1, frames=1, size=(2, 2))
    many = replace(
        many,
        frames=many.frames.expand(2000, -1, -1, -1, -1),
        captions=("A dog.",) * 2000,
        positions=tuple(range(2000)),
    )
    texts = videox_fun(many)["text"]
    assert abs(texts.count("") - 200) < 5 * np.sqrt(2000 * 0.1 * 0.9)
    later = replace(many, positions=tuple(range(1000, 3000)))
    assert videox_fun(later)["text"][:1000] == texts[1000:]
    assert {*videox_fun(many, text_drop_ratio=1)["text"]} == {""}


def test_open_sora_takes_channels_before_time_and_the_rate_at_the_end_of_texts():
    batch = batch_of(3, stride=2)
    found = open_sora(batch, fps=24)
    assert found.keys() == {"video", "text"}
    assert found["video"].shape == (3, 3, 9, 16, 32)
    check_pixels(found["video"], batch.frames.transpose(1, 2))
    assert found["text"] == ["A dog. 12 FPS.", " 12 FPS.", "A cat. 12 FPS."]
    assert open_sora(batch)["text"] == ["A dog.", "", "A cat."]
    own = replace(batch, fps=30.0)
    assert (
        open_sora(own)["text"] == open_sora(own, fps=24)["text"] == open_sora(batch, fps=30)["text"]
    )


def test_finetrainers_takes_one_sample_with_time_before_channels():
    batch = batch_of(1, frames=8)  # the rule is its model's: its buckets cut to it
    found = finetrainers(batch)
    assert found.keys() == {"video", "caption"}
    check_pixels(found["video"], batch.frames[0])
    assert torch.equal(found["video"], batch.frames[0].float() / 127.5 - 1)
    assert found["caption"] == "A dog."


def test_diffsynth_takes_a_list_of_pictures_and_a_prompt():
    batch = batch_of(1)
    found = diffsynth(batch)
    assert found.keys() == {"video", "prompt"}
    assert [(picture.mode, picture.size) for picture in found["video"]] == [("RGB", (32, 16))] * 9
    pixels = np.stack([np.asarray(picture) for picture in found["video"]])
    np.testing.assert_array_equal(pixels, batch.frames[0].permute(0, 2, 3, 1).numpy())
    assert found["prompt"] == "A dog."


def test_cosmos_takes_bytes_and_the_facts_that_its_loader_collates():
    batch = batch_of(1, stride=2)
    found = cosmos(batch, fps=24)
    assert torch.equal(found["video"], batch.frames[0].transpose(0, 1))
    assert (found["video"].dtype, found["fps"], found["num_frames"]) == (torch.uint8, 12.0, 9)
    assert cosmos(replace(batch, fps=30.0))["fps"] == 15
    with pytest.raises(UsageError, match=r"Cosmos is told the frame rate .* set stream\.fps"):
        cosmos(batch)
    assert found["image_size"].tolist() == [16, 32, 16, 32]
    assert not found["padding_mask"].any()
    collated = default_collate([found, found])
    assert {name: tuple(getattr(value, "shape", value)) for name, value in collated.items()} == {
        "video": (2, 3, 9, 16, 32),
        "ai_caption": ("A dog.", "A dog."),
        "fps": (2,),
        "image_size": (2, 4),
        "num_frames": (2,),
        "padding_mask": (2, 1, 16, 32),
    }


@pytest.mark.parametrize("frames", [4, 8, 10, 16])
@pytest.mark.parametrize(
    "adapt", [videox_fun, open_sora, diffsynth, lambda one: cosmos(one, fps=24)]
)
def test_frames_that_are_not_4k_plus_1_are_refused(adapt, frames: int):
    with pytest.raises(UsageError, match=rf"samples of {frames} frames: .* takes 4k \+ 1"):
        adapt(batch_of(1, frames))


@pytest.mark.parametrize("size", [(16, 24), (40, 32)])
def test_sides_that_diffsynth_would_crop_are_refused(size: tuple[int, int]):
    with pytest.raises(UsageError, match=f"{size[0]}x{size[1]}: DiffSynth takes sides"):
        diffsynth(batch_of(1, size=size))


@pytest.mark.parametrize("adapt", [finetrainers, diffsynth, lambda one: cosmos(one, fps=24)])
def test_several_samples_where_one_is_wanted_are_refused(adapt):
    with pytest.raises(UsageError, match="a batch of 2 where one sample is wanted"):
        adapt(batch_of(2))
