"""Autoencoders of diffusers so small that a test runs them, of each class that we know."""

_FOUR = {"block_out_channels": [8] * 4, "layers_per_block": 1, "latent_channels": 4}
_WAN = {
    "base_dim": 3,
    "z_dim": 16,
    "dim_mult": [1] * 4,
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}
_LTX = {
    "latent_channels": 8,
    "block_out_channels": [8] * 4,
    "decoder_block_out_channels": [8] * 4,
    "layers_per_block": [1] * 5,
    "decoder_layers_per_block": [1] * 5,
}
_PICTURES = {**_FOUR, "down_block_types": ["DownEncoderBlock2D"] * 4}

# A name of ours: (class, arguments).
TINY: dict[str, tuple[str, dict[str, object]]] = {
    "wan": ("AutoencoderKLWan", _WAN),
    "wan 2.2": (
        "AutoencoderKLWan",
        {
            **_WAN,
            "z_dim": 48,
            "is_residual": True,
            "patch_size": 2,
            "scale_factor_spatial": 16,
            "in_channels": 12,
            "out_channels": 12,
            "decoder_base_dim": 4,
            "latents_mean": [0.1] * 48,
            "latents_std": [2.0] * 48,
        },
    ),
    "hunyuan": ("AutoencoderKLHunyuanVideo", {**_FOUR, "norm_num_groups": 4}),
    "hunyuan 1.5": ("AutoencoderKLHunyuanVideo15", {**_FOUR, "block_out_channels": [8] * 5}),
    "cogvideox": ("AutoencoderKLCogVideoX", {**_FOUR, "norm_num_groups": 4}),
    "ltx": ("AutoencoderKLLTXVideo", _LTX),
    "ltx that denoises": (
        "AutoencoderKLLTXVideo",
        {
            **_LTX,
            "timestep_conditioning": True,
            "decoder_inject_noise": [True, True, True, False, False],
        },
    ),
    "ltx 2": (
        "AutoencoderKLLTX2Video",
        {
            **_LTX,
            "decoder_block_out_channels": [16, 32, 64],
            "decoder_layers_per_block": [1] * 4,
        },
    ),
    "mochi": (
        "AutoencoderKLMochi",
        {
            "latent_channels": 4,
            "encoder_block_out_channels": [32] * 4,
            "decoder_block_out_channels": [32] * 4,
            "layers_per_block": [1] * 5,
            "latents_mean": [0.1, 0.2, 0.3, 0.4],
            "latents_std": [2.0, 1.0, 0.5, 1.0],
        },
    ),
    "magvit": ("AutoencoderKLMagvit", {**_FOUR, "norm_num_groups": 8}),
    "pictures": (
        "AutoencoderKL",
        {**_PICTURES, "norm_num_groups": 4, "up_block_types": ["UpDecoderBlock2D"] * 4},
    ),
    "pictures, tiny": (
        "AutoencoderTiny",
        {
            "encoder_block_out_channels": [8] * 4,
            "decoder_block_out_channels": [8] * 4,
            "num_encoder_blocks": [1] * 4,
            "num_decoder_blocks": [1] * 4,
        },
    ),
    "temporal decoder": (
        "AutoencoderKLTemporalDecoder",
        {**_PICTURES, "block_out_channels": [32] * 4},
    ),
}
