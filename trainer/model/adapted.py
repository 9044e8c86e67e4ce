"""Video networks of diffusers with the call of ours.

They take a level as a timestep up to 1000. Some were built for one of each token, which makes one
of each slot; the others take one of a clip. Equal timesteps of all tokens compute what one does.
Positions in time count slots, whatever the stride of a pyramid's stage: at half the rate motion
looks twice as fast to them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from shards import UsageError
from trainer.model.context import Context
from trainer.process.pyramid import Clips, Levels, Times


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prompt:
    """Text as these networks take it: every clip has at least one state, if need be of zeros."""

    states: Float[Tensor, "b l d"]
    mask: Bool[Tensor, "b l"]

    def split(self) -> list["Prompt"]:
        """Of each clip alone."""
        parts = zip(self.states.split(1), self.mask.split(1), strict=True)
        return [Prompt(states=states, mask=mask) for states, mask in parts]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A class of diffusers.

    Attributes:
        call: its answer [b, t, c, h, w] to a clip, timesteps [b, t] or [b], and text.
        per_slot: it takes each slot at its own level.
        width: the setting that says how many channels a state of text has.
    """

    call: Callable[[Any, Clips, Tensor, Prompt], Tensor]
    per_slot: bool
    width: str


class Adapted(nn.Module):
    """A video network of diffusers with the call of `SpaceTimeTransformer`.

    Attributes:
        model: the network itself, for `save_pretrained`, LoRA and the like.
        per_slot: it takes each slot at its own noise level; else all slots of a clip share one.
        channels, width: of latents; of a state of text.

    Raises:
        UsageError: there is no adapter for the class.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.name = type(model).__name__
        self._family = family_of(self.name)
        self.per_slot = self._family.per_slot
        settings: Any = model.config
        self.channels: int = settings.in_channels
        self.width: int = settings[self._family.width]

    def forward(
        self, x: Clips, conditioning: Levels, time: Times, context: Context | None = None
    ) -> Clips:
        """The raw network output F.

        Args:
            conditioning: timesteps up to 1000.
            time: is not looked at.
            context: text alone; None tells of no clip anything.

        Raises:
            UsageError: the clip's size does not suit the network's patches.
            ValueError: slots of a clip differ in level and the network takes one a clip; the
                context has classes.
        """
        at = conditioning if self.per_slot else self._one_level(conditioning)
        answer = self._family.call(self.model, x, at, self._prompt(len(x), context))
        if answer.shape != x.shape:
            raise UsageError(
                f"{self.name} answers {list(x.shape)} with {list(answer.shape)}: slots, height and "
                "width must be multiples of its patch"
            )
        return answer

    def _one_level(self, conditioning: Levels) -> Float[Tensor, " b"]:
        """The level that all slots of a clip have."""
        first = conditioning[:, 0]
        if not torch.compiler.is_compiling() and not (conditioning == first[:, None]).all():
            raise ValueError(
                f"{self.name} takes one noise level a clip, and slots of a clip have several: "
                f"train it with equal levels, or one of {', '.join(_levelled())}"
            )
        return first

    def _prompt(self, count: int, context: Context | None) -> Prompt:
        device = next(self.model.parameters()).device
        if context is not None and context.labels is not None:
            raise ValueError(f"the context has classes, of which {self.name} knows nothing")
        if context is None or context.states is None or context.mask is None:
            states = torch.zeros(count, 1, self.width, device=device)
            return Prompt(states=states, mask=states[..., 0] == 0)
        mask = context.mask.clone()
        mask[:, 0] = True  # an empty text has zeros there; to attend to nothing is no number
        return Prompt(states=context.states, mask=mask)


def family_of(name: str) -> Family:
    """What is known of a class of diffusers; UsageError where nothing is."""
    if name not in FAMILIES:
        raise UsageError(
            f"there is no adapter for the network {name!r}; there is one for {', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def _levelled() -> list[str]:
    return [name for name, family in FAMILIES.items() if family.per_slot]


def _of_tokens(model: Any, x: Clips, at: Levels) -> Float[Tensor, "b n"]:
    """Timesteps [b, t] as each token's: time first, then rows and columns of patches."""
    frames, height, width = model.config.patch_size
    each = (x.shape[-2] // height) * (x.shape[-1] // width)
    return at[:, ::frames].repeat_interleave(each, dim=1)


def _wan(model: Any, x: Clips, at: Tensor, text: Prompt) -> Tensor:
    """It takes no mask: states behind the text are zeros, as many as it was trained with (512)."""
    return model(
        x.transpose(1, 2),
        timestep=_of_tokens(model, x, at),
        encoder_hidden_states=text.states,
        return_dict=False,
    )[0].transpose(1, 2)


def _skyreels(model: Any, x: Clips, at: Tensor, text: Prompt) -> Tensor:
    sampled = bool(model.config.inject_sample_info)
    if sampled and len(x) > 1:  # the class adds the frame rate to one clip's levels only
        parts = zip(x.split(1), at.split(1), text.split(), strict=True)
        return torch.cat([_skyreels(model, *part) for part in parts])
    return model(
        x.transpose(1, 2),
        timestep=at[:, :: model.config.patch_size[0]],
        encoder_hidden_states=text.states,
        enable_diffusion_forcing=True,
        fps=[1] if sampled else None,  # 24 a second
        return_dict=False,
    )[0].transpose(1, 2)


def _sana(model: Any, x: Clips, at: Tensor, text: Prompt) -> Tensor:
    return model(
        x.transpose(1, 2),
        timestep=_of_tokens(model, x, at),
        encoder_hidden_states=text.states,
        encoder_attention_mask=text.mask.to(x.dtype),
        return_dict=False,
    )[0].transpose(1, 2)


def _ltx(model: Any, x: Clips, at: Tensor, text: Prompt) -> Tensor:
    """Latents are tokens; positions are seconds at 25 frames a second and pixels, 8 and 32 a
    latent."""
    t, (h, w) = x.shape[1], x.shape[-2:]
    tokens = model(
        x.permute(0, 1, 3, 4, 2).flatten(1, 3),
        timestep=at.repeat_interleave(h * w, dim=1),
        encoder_hidden_states=text.states,
        encoder_attention_mask=text.mask.to(x.dtype),
        num_frames=t,
        height=h,
        width=w,
        rope_interpolation_scale=(8 / 25, 32, 32),
        return_dict=False,
    )[0]
    return tokens.unflatten(1, (t, h, w)).permute(0, 1, 4, 2, 3)


def _cogvideox(model: Any, x: Clips, at: Tensor, text: Prompt) -> Tensor:
    """Time comes first here, and text always fills the places that it has."""
    places = model.config.max_text_seq_length
    if text.states.shape[1] > places:
        raise UsageError(
            f"{type(model).__name__} has room for {places} states of text, got "
            f"{text.states.shape[1]}: set conditioning.length to {places}"
        )
    rotates = model.config.use_rotary_positional_embeddings
    return model(
        x,
        timestep=at,
        encoder_hidden_states=nn.functional.pad(
            text.states, (0, 0, 0, places - text.states.shape[1])
        ),
        image_rotary_emb=cogvideox_rotation(model.config, x) if rotates else None,
        return_dict=False,
    )[0]


def cogvideox_rotation(settings: Any, x: Clips) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions, which its pipeline makes outside of the network.

    Args:
        settings: of the network.
    """
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    positions: Any = get_3d_rotary_pos_embed
    patch, frames = settings.patch_size, settings.patch_size_t
    rows, columns = x.shape[-2] // patch, x.shape[-1] // patch
    most = settings.sample_height // patch, settings.sample_width // patch
    common = {"embed_dim": settings.attention_head_dim, "device": x.device}
    if frames is not None:  # CogVideoX 1.5
        return positions(
            crops_coords=None,
            grid_size=(rows, columns),
            temporal_size=-(-x.shape[1] // frames),
            grid_type="slice",
            max_size=most,
            **common,
        )
    scale = min(most[0] / rows, most[1] / columns)  # fits the grid into the one trained on
    high, wide = round(scale * rows), round(scale * columns)
    top, left = round((most[0] - high) / 2), round((most[1] - wide) / 2)
    return positions(
        crops_coords=((top, left), (top + high, left + wide)),
        grid_size=(rows, columns),
        temporal_size=x.shape[1],
        **common,
    )


def _hunyuan(model: Any, x: Clips, at: Tensor, text: Prompt) -> Tensor:
    """It was distilled from guided sampling: its guidance stands at 1. The pooled text is zero."""
    guided = {"guidance": torch.full_like(at, 1000.0)} if model.config.guidance_embeds else {}
    return model(
        x.transpose(1, 2),
        timestep=at,
        encoder_hidden_states=text.states,
        encoder_attention_mask=text.mask,
        pooled_projections=x.new_zeros(len(x), model.config.pooled_projection_dim),
        return_dict=False,
        **guided,
    )[0].transpose(1, 2)


def _mochi(model: Any, x: Clips, at: Tensor, text: Prompt) -> Tensor:
    """Its time runs from noise to clip, and so does the velocity that it says."""
    return -model(
        x.transpose(1, 2),
        timestep=1000 - at,
        encoder_hidden_states=text.states,
        encoder_attention_mask=text.mask,
        return_dict=False,
    )[0].transpose(1, 2)


def _animatediff(model: Any, x: Clips, at: Tensor, text: Prompt) -> Tensor:
    return model(
        x.transpose(1, 2),
        timestep=at,
        encoder_hidden_states=text.states.repeat_interleave(x.shape[1], dim=0),
        return_dict=False,
    )[0].transpose(1, 2)


FAMILIES = {
    "WanTransformer3DModel": Family(call=_wan, per_slot=True, width="text_dim"),
    "SkyReelsV2Transformer3DModel": Family(call=_skyreels, per_slot=True, width="text_dim"),
    "SanaVideoTransformer3DModel": Family(call=_sana, per_slot=True, width="caption_channels"),
    "LTXVideoTransformer3DModel": Family(call=_ltx, per_slot=True, width="caption_channels"),
    "CogVideoXTransformer3DModel": Family(call=_cogvideox, per_slot=False, width="text_embed_dim"),
    "HunyuanVideoTransformer3DModel": Family(call=_hunyuan, per_slot=False, width="text_embed_dim"),
    "MochiTransformer3DModel": Family(call=_mochi, per_slot=False, width="text_embed_dim"),
    "UNetMotionModel": Family(call=_animatediff, per_slot=False, width="cross_attention_dim"),
}
