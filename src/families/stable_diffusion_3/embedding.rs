//! The embeddings of image tokens, of times and of pooled texts.

use tch::{Device, Kind, Tensor};

use super::TransformerConfig;
use crate::Result;
use crate::checkpoint::{Scope, Weight};
use crate::nn::{Conv2d, Embedder, Sinusoids};
use crate::runtime::Lock;

/// Latents `[I, C, h, w]` to image tokens `[I, n, c]`: a linear map of each patch, plus the vector of its position.
pub struct PatchEmbedding {
    proj: Conv2d,
    /// `[1, s², c]` on the CPU, a grid of which the middle is used. It may be larger than the layer's other weights
    /// together.
    positions: Weight,
    /// The part of `positions` that was used last, and its height and width.
    cropped: Lock<Option<([i64; 2], Tensor)>>,
    max_positions: i64,
    patch_size: i64,
}

impl PatchEmbedding {
    pub fn new(weights: &Scope, positions: Weight, config: &TransformerConfig) -> Result<Self> {
        let patch = config.patch_size;
        Ok(PatchEmbedding {
            proj: Conv2d::new(&(weights / "proj"), config.in_channels, config.width(), patch)?.strided(patch, 0),
            positions,
            cropped: Lock::default(),
            max_positions: config.max_positions,
            patch_size: patch,
        })
    }

    /// Shape of the grid of positions in a checkpoint.
    pub fn positions_shape(config: &TransformerConfig) -> [i64; 3] {
        [1, config.max_positions * config.max_positions, config.width()]
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        let tokens = self.proj.forward(x).flatten(2, 3).transpose(1, 2);
        tokens + self.positions([size[2], size[3]].map(|side| side / self.patch_size), x.device())
    }

    /// The positions `[1, h·w, c]` of a grid, from the middle of those of the checkpoint.
    fn positions(&self, size: [i64; 2], device: Device) -> Tensor {
        let known = self.cropped.hold().as_ref().filter(|(of, _)| *of == size).map(|(_, kept)| kept.shallow_clone());
        known.unwrap_or_else(|| {
            let cropped = self.positions.packed(|all| {
                let [top, left] = size.map(|side| (self.max_positions - side) / 2);
                let grid = all.view([1, self.max_positions, self.max_positions, -1]);
                grid.narrow(1, top, size[0]).narrow(2, left, size[1]).flatten(1, 2).copy()
            });
            let cropped = cropped.to_device(device);
            *self.cropped.hold() = Some((size, cropped.shallow_clone()));
            cropped
        })
    }
}

/// The embedding of the time and of the pooled text, from which every block makes shifts, scales and gates.
pub struct TimeTextEmbedding {
    time: Embedder,
    text: Embedder,
}

/// Width of the sinusoids of the time.
const TIME_WIDTH: i64 = 256;

impl TimeTextEmbedding {
    pub fn new(weights: &Scope, config: &TransformerConfig) -> Result<Self> {
        let width = config.width();
        Ok(TimeTextEmbedding {
            time: Embedder::new(&(weights / "timestep_embedder"), TIME_WIDTH, width)?,
            text: Embedder::new(&(weights / "text_embedder"), config.pooled_projection_dim, width)?,
        })
    }

    /// Times `[I]` to vectors `[I, c]`.
    pub fn of_times(&self, times: &Tensor, kind: Kind) -> Tensor {
        let sinusoids = Sinusoids { width: TIME_WIDTH, cosines_first: true, freq_shift: 0.0 };
        self.time.forward(&sinusoids.of(times).to_kind(kind))
    }

    /// Pooled texts `[T, p]` to vectors `[T, c]`.
    pub fn of_pooled(&self, pooled: &Tensor) -> Tensor {
        self.text.forward(pooled)
    }
}
