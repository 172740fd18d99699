//! The embeddings that are added in every residual block: of the time, and in some models of the guidance scale, the
//! pooled text and sizes.

use tch::{Device, Kind, Tensor};

use super::UNetConfig;
use super::config::AddedConfig;
use crate::Result;
use crate::checkpoint::Scope;
use crate::denoiser::MicroConditions;
use crate::nn::{Embedder, Linear, Sinusoids};

/// Times `[I]` to vectors `[I, 4c]`: sinusoids (Vaswani et al. 2017, section 3.5), then two linear layers. Latent
/// consistency models add the guidance scale to the sinusoids (Luo et al. 2023, section 4.2).
pub struct TimeEmbedding {
    guidance: Option<Guidance>,
    embedder: Embedder,
    waves: Sinusoids,
}

impl TimeEmbedding {
    pub fn new(weights: &Scope, config: &UNetConfig) -> Result<Self> {
        let (channels, width) = (config.block_channels[0], config.time_dim());
        let guidance = match config.guidance_dim {
            None => None,
            Some(inputs) => {
                Some(Guidance { linear: Linear::new(&(weights / "cond_proj"), inputs, channels, false)?, inputs })
            }
        };
        Ok(TimeEmbedding {
            guidance,
            embedder: Embedder::new(weights, channels, width)?,
            waves: sinusoids(channels, config),
        })
    }

    /// Times `[I]` to embeddings `[I, 4c]`; `scale` is the guidance scale, which models without that input ignore.
    pub fn forward(&self, times: &Tensor, scale: f64, kind: Kind) -> Tensor {
        let mut waves = self.waves.of(times).to_kind(kind);
        if let Some(guidance) = &self.guidance {
            waves += guidance.forward(scale, times.device(), kind);
        }
        self.embedder.forward(&waves)
    }

    /// Whether the guidance scale is an input of the model.
    pub fn reads_guidance(&self) -> bool {
        self.guidance.is_some()
    }
}

fn sinusoids(width: i64, config: &UNetConfig) -> Sinusoids {
    Sinusoids { width, cosines_first: config.flip_sin_to_cos, freq_shift: config.freq_shift }
}

/// The embedding of the guidance scale.
struct Guidance {
    linear: Linear,
    inputs: i64,
}

impl Guidance {
    /// `[1, c]`, from sinusoids of `1000 w` with `w = scale − 1`; scale 1 is no guidance.
    fn forward(&self, scale: f64, device: Device, kind: Kind) -> Tensor {
        let half = self.inputs / 2;
        // In float32 and in this order, as in diffusers: angles are in the thousands, so that rounding is visible.
        let step = Tensor::from(10_000f32).log() / (half - 1) as f64;
        let frequencies = (Tensor::arange(half, (Kind::Float, Device::Cpu)) * -step).exp();
        let angles = Tensor::from((scale - 1.0) as f32) * 1000.0 * frequencies;
        let waves = Tensor::cat(&[angles.sin(), angles.cos()], 0).constant_pad_nd([0, self.inputs % 2]);
        self.linear.forward(&waves.unsqueeze(0).to_device(device).to_kind(kind))
    }
}

/// The embedding of the pooled text and the sizes of an image, which is added to the time embedding (Podell et al.
/// 2023, section 2.2).
pub struct AddedEmbedding {
    embedder: Embedder,
    waves: Sinusoids,
}

impl AddedEmbedding {
    pub fn new(weights: &Scope, config: &UNetConfig, added: AddedConfig) -> Result<Self> {
        let width = config.time_dim();
        Ok(AddedEmbedding {
            embedder: Embedder::new(weights, added.inputs, width)?,
            waves: sinusoids(added.time_dim, config),
        })
    }

    /// Pooled texts `[T, p]` to `[T, 4c]`.
    pub fn forward(&self, pooled: &Tensor, conditions: &MicroConditions) -> Tensor {
        let MicroConditions { original_size, crop, target_size, .. } = conditions;
        let sizes = Tensor::from_slice(&[*original_size, *crop, *target_size].concat()).to_device(pooled.device());
        let waves = self.waves.of(&sizes).view([1, -1]).to_kind(pooled.kind());
        let waves = waves.expand([pooled.size()[0], -1], false);
        self.embedder.forward(&Tensor::cat(&[pooled, &waves], 1))
    }
}
