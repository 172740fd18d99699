"""The parts of the pocket model, untrained: the classes of diffusers and transformers that Stable Diffusion has."""

from __future__ import annotations

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

IMAGE_SIZE = 32
LATENT_SIZE = 8
LATENT_CHANNELS = 4
TEXT_WIDTH = 128
MAX_TOKENS = 77


def build_vae() -> AutoencoderKL:
    """32 x 32 pixels to 8 x 8 latents of 4 channels."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENT_CHANNELS,
        sample_size=IMAGE_SIZE,
    )


def build_unet(
    channels: tuple[int, int] = (64, 128), heads: tuple[int, int] = (4, 8)
) -> UNet2DConditionModel:
    """Two resolutions (8 x 8 and 4 x 4), each with cross-attention, as is the middle: seven layers of it."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=heads,  # the number of heads per block, under the name that diffusers gives it
        use_linear_projection=True,
    )


def build_text_encoder(vocab_size: int, bos: int, eos: int, layers: int = 3) -> CLIPTextModel:
    """Causal transformer over 77 positions."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=eos,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """Zero terminal signal-to-noise ratio, so that the words are all there is to know at the last timestep."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
