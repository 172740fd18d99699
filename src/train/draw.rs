//! The random numbers of training. They are a function of seed and position, so that a resumed run draws the same ones.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use tch::Tensor;

/// What a stream of random numbers is used for.
#[derive(Clone, Copy)]
enum Purpose {
    Order = 1,
    Step = 2,
    Start = 3,
    Texts = 4,
}

/// Changes the seed, so that training does not see the noise that scores of the same seed are computed with.
const TRAINING: u64 = 0x7261_696e_696e_6721;

fn generator(seed: u64, purpose: Purpose, number: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed ^ TRAINING);
    generator.set_stream((purpose as u64) << 60 | number);
    generator
}

/// A number below `limit`.
fn below(generator: &mut ChaCha8Rng, limit: usize) -> usize {
    // The high half of a product, whose bias is below 2⁻⁶⁴ · limit.
    ((u128::from(generator.next_u64()) * limit as u128) >> 64) as usize
}

fn normal(generator: &mut ChaCha8Rng, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|_| StandardNormal.sample(generator)).collect();
    Tensor::from_slice(&numbers).view(shape)
}

/// The order of `count` items in an epoch (Fisher and Yates).
pub fn order(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    let mut generator = generator(seed, Purpose::Order, epoch);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, below(&mut generator, i + 1));
    }
    order
}

/// `count` indices below `choices`, of the times of the item at `position` in the batch of a step, and the noise of
/// these times `[count, C, h, w]`.
pub fn times(
    seed: u64,
    step: u64,
    position: usize,
    choices: usize,
    count: usize,
    shape: [i64; 3],
) -> (Vec<usize>, Tensor) {
    let mut generator = generator(seed, Purpose::Step, step << 20 | position as u64);
    let times = (0..count).map(|_| below(&mut generator, choices)).collect();
    let [c, h, w] = shape;
    (times, normal(&mut generator, &[count as i64, c, h, w]))
}

/// `count` of some texts, or all if there are fewer, for the item at `position` in the batch of a step.
pub fn texts<T>(seed: u64, step: u64, position: usize, mut from: Vec<T>, count: usize) -> Vec<T> {
    let mut generator = generator(seed, Purpose::Texts, step << 20 | position as u64);
    let count = count.min(from.len());
    for i in 0..count {
        let left = from.len() - i;
        from.swap(i, i + below(&mut generator, left));
    }
    from.truncate(count);
    from
}

/// The initial value of the first factor of a low-rank delta, `[r, in]` of variance `1/r²`; the second starts at zero.
pub fn start(seed: u64, number: u64, shape: [i64; 2]) -> Tensor {
    normal(&mut generator(seed, Purpose::Start, number), &shape) / shape[0] as f64
}
