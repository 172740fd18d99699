use tch::{Kind, Tensor};

/// Sinusoids of numbers (Vaswani et al. 2017, section 3.5), of frequencies from 1 down to about 1/10,000.
pub struct Sinusoids {
    /// Number of sines and cosines together.
    pub width: i64,
    /// Whether cosines come before sines.
    pub cosines_first: bool,
    /// The shift in the exponents of the frequencies; with 1, the last one is 1/10,000.
    pub freq_shift: f64,
}

impl Sinusoids {
    /// `[N]` to `[N, width]`, float32.
    pub fn of(&self, numbers: &Tensor) -> Tensor {
        let half = self.width / 2;
        let exponent = Tensor::arange(half, (Kind::Float, numbers.device())) * -(10_000f64.ln());
        let frequencies = (exponent / (half as f64 - self.freq_shift)).exp();
        let angles = numbers.to_kind(Kind::Float).unsqueeze(1) * frequencies.unsqueeze(0);
        let (sin, cos) = (angles.sin(), angles.cos());
        if self.cosines_first { Tensor::cat(&[cos, sin], 1) } else { Tensor::cat(&[sin, cos], 1) }
    }
}
