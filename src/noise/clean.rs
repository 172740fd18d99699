use tch::{Kind, Tensor};

use super::{Clip, Prediction};

/// The clean latent and the noise that a prediction for a noised latent `x = √ᾱ z + √(1−ᾱ) ε` implies.
pub struct Clean {
    /// The clean latent `z`, clipped if the scheduler's configuration says so.
    pub latent: Tensor,
    /// The noise `ε`, computed before clipping.
    pub noise: Tensor,
}

impl Clean {
    /// Splits `x` by a prediction; `alpha` is `ᾱ`. All tensors are float32 `[I, C, h, w]`.
    pub fn new(kind: Prediction, predicted: &Tensor, x: &Tensor, alpha: f64, clip: Clip) -> Self {
        let (signal, sigma) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (latent, noise) = match kind {
            Prediction::Epsilon => ((x - predicted * sigma) / signal, predicted.shallow_clone()),
            Prediction::Velocity => (x * signal - predicted * sigma, predicted * signal + x * sigma),
            Prediction::Flow => {
                let both = signal + sigma;
                ((x - predicted * sigma) / both, (x + predicted * signal) / both)
            }
        };
        Clean { latent: clipped(&latent, clip), noise }
    }
}

fn clipped(latent: &Tensor, clip: Clip) -> Tensor {
    match clip {
        Clip::Never => latent.shallow_clone(),
        Clip::Range(most) => latent.clamp(-most, most),
        Clip::Dynamic { quantile, most } => {
            let flat = latent.flatten(1, -1);
            let quantile = Tensor::from(quantile as f32).to_device(latent.device());
            let s = flat.abs().quantile(&quantile, 1, true, "linear").clamp(1.0, most);
            (flat.clamp_tensor(Some(&-&s), Some(&s)) / s).reshape_as(latent).to_kind(Kind::Float)
        }
    }
}
