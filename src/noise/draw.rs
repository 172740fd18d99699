use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use tch::Tensor;

use super::Time;

/// Standard normal noise `[C, h, w]` on the CPU, float32. It depends only on its arguments.
///
/// A counter-based generator (ChaCha, 8 rounds) keyed by the seed has a stream for every time, so that a time has the
/// same noise in every schedule and on every machine. `repeat` distinguishes several draws at one time.
pub fn draw(seed: u64, time: Time, repeat: u32, shape: [i64; 3]) -> Tensor {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(u64::from(repeat) << 32 | stream(time));
    let count: i64 = shape.iter().product();
    let noise: Vec<f32> = (0..count).map(|_| StandardNormal.sample(&mut generator)).collect();
    Tensor::from_slice(&noise).view(shape)
}

/// 32 bits for a time: the number itself if it is whole, otherwise a hash of its bits with the highest bit set.
fn stream(time: Time) -> u64 {
    const HIGHEST: u64 = 1 << 31;
    match time.whole().and_then(|t| u64::try_from(t).ok()).filter(|t| *t < HIGHEST) {
        Some(whole) => whole,
        None => (time.0.to_bits() ^ time.0.to_bits() >> 32) & (HIGHEST - 1) | HIGHEST,
    }
}
