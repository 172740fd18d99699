use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use tch::Tensor;

/// Standard normal noise `[C, h, w]` on the CPU, float32, a function of its arguments alone.
///
/// A counter-based generator (ChaCha, 8 rounds) keyed by the seed gives every timestep a stream of its own, so a
/// timestep has the same noise whatever else is in the schedule, on any machine. `repeat` tells apart several draws
/// at one timestep.
pub fn draw(seed: u64, timestep: i64, repeat: u32, shape: [i64; 3]) -> Tensor {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(u64::from(repeat) << 32 | timestep as u64);
    let count: i64 = shape.iter().product();
    let noise: Vec<f32> = (0..count).map(|_| StandardNormal.sample(&mut generator)).collect();
    Tensor::from_slice(&noise).view(shape)
}
