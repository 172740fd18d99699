//! Every option of text-to-image generation.

use super::Truncate;
use super::rules::{batch_size, number, one_of, or_null, whole};
use super::score::{crop, side, size};

options! {
    /// How images are generated.
    pub struct GenerateConfig: "option of generation" {
        /// Steps of the sampler.
        steps: Option<i64> = None, or_null(whole(1..=MAX_COUNT), "50, or 4 with a latent consistency model");
        /// Strength of classifier-free guidance, of which there is none at 1 and below.
        guidance_scale: Option<f64> = None,
            or_null(number(0.0..=1e4), "7.5, 5 for Stable Diffusion XL, 8.5 with a latent consistency model");
        /// How far the guided prediction is scaled back to its standard deviation before guidance (Lin et al. 2024,
        /// section 3.4), against oversaturated colours.
        guidance_rescale: f64 = 0.0, number(0.0..=1.0);
        /// Noise added between steps of DDIM: 0 adds none, 1 as much as DDPM.
        eta: f64 = 0.0, number(0.0..=1.0);
        /// Height of the image.
        height: Option<usize> = None, or_null(side(), "the model's own");
        /// Width of the image.
        width: Option<usize> = None, or_null(side(), "the model's own");
        /// Height and width of the image before resizing, a conditioning input of Stable Diffusion XL.
        original_size: Option<[i64; 2]> = None, size("those of the generated image");
        /// Top and left coordinates of the crop, a conditioning input of Stable Diffusion XL.
        crops_coords_top_left: Option<[i64; 2]> = None, crop();
        /// Desired height and width of the image, a conditioning input of Stable Diffusion XL.
        target_size: Option<[i64; 2]> = None, size("those of the generated image");
        /// Images of each prompt.
        num_images: usize = 1, whole(1..=MAX_COUNT);
        /// Images at a time; never changes an image.
        batch_size: Option<usize> = None, batch_size();
        /// What is done with texts longer than the model's context length.
        truncate: Truncate = Truncate::Warn, one_of();
    }
}

const MAX_COUNT: i64 = 1 << 20;
