use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Architecture, Attention, Projection, Target};
use crate::torch::to_vec;

/// Numbers taken of each layer's `W_k`.
const PER_LAYER: i64 = 8;

/// By what deltas recognise the model they were made for: its attention layers, and a sample of their weights.
///
/// A sample and not a hash, since one model is published in float32 and float16 and both fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub architecture: String,
    /// The first numbers of every cross-attention's `W_k`.
    pub sample: Vec<f32>,
}

impl Fingerprint {
    /// Of the model whose weights `base` gives.
    pub fn new(architecture: &Architecture, base: impl Fn(Target) -> Tensor) -> Self {
        let sample = |site| {
            let weight = base(Target { site, attention: Attention::Cross, projection: Projection::Key });
            to_vec(&weight.flatten(0, -1).narrow(0, 0, PER_LAYER.min(weight.numel() as i64)))
        };
        Fingerprint {
            architecture: architecture.describe(),
            sample: (0..architecture.sites.len()).flat_map(sample).collect(),
        }
    }

    /// A short name for it, eight hexadecimal digits. Weights rounded to another type have another.
    pub fn digest(&self) -> String {
        let mut hash = crc32fast::Hasher::new();
        hash.update(self.architecture.as_bytes());
        self.sample.iter().for_each(|number| hash.update(&number.to_le_bytes()));
        format!("{:08x}", hash.finalize())
    }

    /// Whether the weights are the same but for rounding to half precision (bfloat16 keeps 8 bits).
    pub fn same_weights(&self, other: &Fingerprint) -> bool {
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.01 * a.abs().max(b.abs()) + 1e-7;
        self.architecture == other.architecture
            && self.sample.len() == other.sample.len()
            && self.sample.iter().zip(&other.sample).all(close)
    }
}
