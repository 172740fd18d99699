//! Evaluations, as many at a time as memory allows.

use std::time::{Duration, Instant};

use tch::Device;

use super::Model;
use crate::kernels::shim;
use crate::runtime::{Lock, caught};
use crate::{Error, Result};

/// What a request says while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// So many evaluations of the UNet are done, of so many.
    Progress { done: usize, total: usize },
    /// Memory ran out; batches are of this size from now on.
    SmallerBatch(usize),
}

/// Evaluations in batches, which are halved where memory runs out.
pub struct Batches<'a, T> {
    model: &'a Model,
    pixels: i64,
    wanted: usize,
    size: usize,
    done: usize,
    total: usize,
    on_progress: T,
}

impl<'a, T: FnMut(Event) -> Result<()>> Batches<'a, T> {
    /// Batches of `size` out of `total` evaluations of a model, of latents of so many `pixels`; `on_progress` is called as the
    /// work is.
    pub fn new(model: &'a Model, size: usize, pixels: i64, total: usize, on_progress: T) -> Self {
        Batches { model, pixels, wanted: size, size: model.sizes.of(pixels, size), done: 0, total, on_progress }
    }

    /// Runs `run` on all evaluations; it must keep nothing of a batch that it does not finish.
    pub fn run<E>(&mut self, evaluations: &[E], mut run: impl FnMut(&[E]) -> Result<()>) -> Result<()> {
        let mut left = evaluations;
        while !left.is_empty() {
            let (batch, rest) = left.split_at(self.size.min(left.len()));
            let done = caught(|| run(batch));
            if let Err(Error::OutOfMemory(_)) = done {
                self.model.make_room();
            }
            match done {
                Ok(()) => {}
                Err(Error::OutOfMemory(_)) if batch.len() > 1 => {
                    self.size = batch.len() / 2;
                    self.model.sizes.remember(self.pixels, self.wanted, self.size);
                    (self.on_progress)(Event::SmallerBatch(self.size))?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            left = rest;
            self.done += batch.len();
            (self.on_progress)(Event::Progress { done: self.done, total: self.total })?;
        }
        Ok(())
    }
}

/// Batches that had to be smaller, so that the next call of a model need not find out again.
#[derive(Debug, Default)]
pub struct Sizes(Lock<Vec<Smaller>>);

/// So many evaluations of latents of that size were wanted at a time, and so many were tried in the end.
#[derive(Debug)]
struct Smaller {
    pixels: i64,
    wanted: usize,
    size: usize,
    since: Instant,
}

/// How long that is remembered: who had the memory may have given it back.
const MEMORY: Duration = Duration::from_secs(600);

impl Sizes {
    /// What to begin with where `wanted` evaluations at a time are: no more than what as many or fewer came down to.
    fn of(&self, pixels: i64, wanted: usize) -> usize {
        let mut known = self.0.hold();
        known.retain(|smaller| smaller.since.elapsed() < MEMORY);
        let fits = known.iter().filter(|smaller| smaller.pixels == pixels && smaller.wanted <= wanted);
        fits.map(|smaller| smaller.size).fold(wanted, usize::min)
    }

    fn remember(&self, pixels: i64, wanted: usize, size: usize) {
        let mut known = self.0.hold();
        known.retain(|smaller| (smaller.pixels, smaller.wanted) != (pixels, wanted));
        known.push(Smaller { pixels, wanted, size, since: Instant::now() });
    }
}

/// Upper estimate of what one evaluation of Stable Diffusion's UNet takes on a GPU, by latent pixel: 256 MiB at 64×64.
const BYTES_PER_PIXEL: usize = 64 << 10;

/// Evaluations at a time, see [`Model::auto_batch`].
pub fn auto(device: Device, pixels: usize) -> usize {
    let Device::Cuda(index) = device else {
        return (4096 / pixels).clamp(1, 256);
    };
    let wanted = (64 * 4096 / pixels).clamp(1, 256);
    let room = shim::cuda_memory(index).map_or(wanted, |memory| memory.free / (pixels * BYTES_PER_PIXEL));
    wanted.min(room).max(1)
}
