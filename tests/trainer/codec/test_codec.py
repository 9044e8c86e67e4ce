"""What every codec does, and how latents lie in time."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shards import UsageError
from tests.autoencoders import TINY
from trainer.codec.codec import FrameRule, check_stages
from trainer.codec.families import FAMILIES

NAMES = ["pixels", *TINY]
WAN, LTX = FrameRule(factor=4, step=4), FrameRule(factor=8, step=8)
COGVIDEOX, MOCHI = FrameRule(factor=4, step=8), FrameRule(factor=6, step=6)


@pytest.mark.parametrize("name", NAMES)
def test_latents_have_the_shape_that_the_rule_says_and_no_gradient(name: str, small) -> None:
    codec, (b, t, _, h, w), latents = (
        small.codec(name),
        small.clips(name).shape,
        small.latents(name),
    )
    times, side = codec.rule.latents(t), codec.spatial
    assert latents.shape == (b, times, codec.channels, h // side, w // side)
    assert latents.dtype == torch.float32
    assert not latents.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_decoding_is_differentiable_and_always_the_same(name: str, small) -> None:
    latents = small.latents(name).clone().requires_grad_()
    frames = small.codec(name).decode(latents)
    assert torch.equal(frames, small.frames(name))
    assert frames.shape == small.clips(name).shape
    assert frames.dtype == torch.float32
    frames[:, -1].square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.isfinite().all()
    assert (latents.grad[:, -1].abs().amax(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", [name for name, (c, _) in TINY.items() if FAMILIES[c].recomputes])
def test_checkpointing_of_blocks_changes_no_gradient(name: str, small) -> None:
    codec, gradients = small.codec(name), []
    for switch in (
        codec.model.enable_gradient_checkpointing,
        codec.model.disable_gradient_checkpointing,
    ):
        switch()
        latents = small.latents(name)[:1].clone().requires_grad_()
        codec.decode(latents).square().sum().backward()
        gradients.append(latents.grad)
    one, other = gradients
    assert (one - other).abs().max() <= 1e-5 * other.abs().max()


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_slices_of_any_size_give_the_same_latents_and_frames(name: str, small) -> None:
    whole = replace(small.codec(name), slice=3)
    for one, other in (
        (whole.encode(small.clips(name)), small.latents(name)),
        (whole.decode(small.latents(name)), small.frames(name)),
    ):  # values of about one, in float32 by other kernels
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in TINY if "pictures" not in name])
def test_clips_of_another_length_or_size_are_refused(name: str, small) -> None:
    codec, clips = small.codec(name), small.clips(name)
    with pytest.raises(UsageError, match=f"multiples of {codec.spatial}"):
        codec.encode(clips[..., 1:])
    if codec.rule.step > 1:
        good = f"{codec.rule.step}·k . 1 frames: give it [0-9]+ or {clips.shape[1]}"
        with pytest.raises(UsageError, match=f"a clip of {clips.shape[1] - 1} frames.*{good}"):
            codec.encode(clips[:, 1:])


def test_frames_and_latents_of_a_rule() -> None:
    assert [WAN.latent_of(frame) for frame in range(10)] == [0, 1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert WAN.first_frames(17) == [0, 1, 5, 9, 13]
    assert COGVIDEOX.first_frames(17) == [0, 1, 5, 9, 13]
    assert MOCHI.first_frames(13) == [0, 1, 7]
    assert FrameRule().first_frames(3) == [0, 1, 2]
    levels = torch.arange(9.0).expand(2, 9)
    assert levels[:, WAN.first_frames(9)].tolist() == [[0, 1, 5]] * 2


@pytest.mark.parametrize("rule", [WAN, LTX, COGVIDEOX, MOCHI, FrameRule()], ids=str)
@given(k=st.integers(1, 6))
def test_each_frame_lies_between_the_first_of_its_latent_and_that_of_the_next(
    rule: FrameRule, k: int
) -> None:
    frames = rule.step * k + 1
    firsts = rule.first_frames(frames)
    assert len(firsts) == rule.latents(frames)
    for frame in range(frames):
        own = sum(first <= frame for first in firsts) - 1
        assert rule.latent_of(frame) == own
        assert rule.needed(frame, frames) == own + 1


def test_a_frame_of_a_codec_without_prefixes_needs_all_latents() -> None:
    assert FrameRule(factor=4, step=4, prefix=False).needed(0, 17) == 5


@pytest.mark.parametrize(
    ("rule", "frames", "message"),
    [
        (WAN, 16, r"a clip of 16 frames .* takes 4·k \+ 1 frames: give it 13 or 17"),
        (MOCHI, 17, r"a clip of 17 frames .* takes 6·k \+ 1 frames: give it 13 or 19"),
        (LTX, 0, r"a clip of 0 frames .* give it 1 or 9"),
        (FrameRule(), 0, r"a clip of 0 frames .* any number of frames: give it 1 or 2"),
    ],
)
def test_lengths_outside_the_rule_are_refused(rule: FrameRule, frames: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rule.latents(frames)


@pytest.mark.parametrize(
    ("rule", "frames"), [(WAN, 17), (COGVIDEOX, 33), (LTX, 33), (MOCHI, 25), (FrameRule(), 16)]
)
def test_windows_that_suit_every_stage_pass(rule: FrameRule, frames: int) -> None:
    check_stages(rule, frames, (1, 2, 4))


@pytest.mark.parametrize(
    ("rule", "frames", "message"),
    [
        (WAN, 16, "stream.frames 16 makes clips of 16 at stride 1.*set it to 17"),
        (WAN, 21, "stream.frames 21 makes clips of 11 at stride 2.*set it to 17 or 33"),
        (LTX, 17, "stream.frames 17 makes clips of 5 at stride 4.*8·k . 1.*set it to 33"),
        (COGVIDEOX, 9, "stream.frames 9 makes clips of 5 at stride 2.*set it to 33"),
        (MOCHI, 17, "stream.frames 17 makes clips of 17 at stride 1.*6·k . 1.*set it to 25"),
    ],
)
def test_windows_that_break_the_rule_at_a_stage_are_refused(
    rule: FrameRule, frames: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_stages(rule, frames, (1, 2, 4))
