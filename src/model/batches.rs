//! Evaluations in batches as large as memory allows.

use std::time::{Duration, Instant};

use tch::Device;

use super::Model;
use crate::kernels::shim;
use crate::runtime::{Lock, caught};
use crate::{Error, Result};

/// An event of a running request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Evaluations of the denoiser are finished.
    Progress {
        /// Number of finished evaluations.
        done: usize,
        /// Number of all evaluations.
        total: usize,
    },
    /// Memory ran out; batches have this size from now on.
    SmallerBatch(usize),
}

/// Runs evaluations in batches, which are halved when memory runs out.
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
    /// Batches of `size` evaluations, of `total` evaluations of latents with `pixels` pixels; `on_progress` receives
    /// events.
    pub fn new(model: &'a Model, size: usize, pixels: i64, total: usize, on_progress: T) -> Self {
        Batches { model, pixels, wanted: size, size: model.sizes.of(pixels, size), done: 0, total, on_progress }
    }

    /// Calls `run` with batches of the evaluations. If `run` fails, it must have kept nothing of the batch.
    ///
    /// # Errors
    /// The error of `run` or of the progress callback; `OutOfMemory` if a single evaluation does not fit in memory.
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

/// Batch sizes that had to be reduced, which the next call starts with.
#[derive(Debug, Default)]
pub struct Sizes(Lock<Vec<Smaller>>);

/// A reduced batch size, for latents of `pixels` pixels and a wanted batch size.
#[derive(Debug)]
struct Smaller {
    pixels: i64,
    wanted: usize,
    size: usize,
    since: Instant,
}

/// How long a reduced size is remembered: other programs may have freed memory since.
const MEMORY: Duration = Duration::from_secs(600);

impl Sizes {
    /// The initial batch size if `wanted` is wanted: at most the reduced size of the same or a smaller wanted size.
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

/// An upper estimate of the memory of one evaluation of Stable Diffusion's UNet on a GPU, per latent pixel: 256 MiB at
/// 64×64.
const BYTES_PER_PIXEL: usize = 64 << 10;

/// Number of evaluations at a time, see [`Model::auto_batch`].
pub fn auto(device: Device, pixels: usize) -> usize {
    let Device::Cuda(index) = device else {
        return (4096 / pixels).clamp(1, 256);
    };
    let wanted = (64 * 4096 / pixels).clamp(1, 256);
    let room = shim::cuda_memory(index).map_or(wanted, |memory| memory.free / (pixels * BYTES_PER_PIXEL));
    wanted.min(room).max(1)
}
