//! Evaluations, as many at a time as memory allows.

use super::Unit;
use crate::torch::{caught, shim};
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
pub struct Batches<T> {
    size: usize,
    done: usize,
    total: usize,
    told: T,
}

impl<T: FnMut(Event) -> Result<()>> Batches<T> {
    /// Batches of `size` out of `total` evaluations; `told` hears how far the work is.
    pub fn new(size: usize, total: usize, told: T) -> Self {
        Batches { size, done: 0, total, told }
    }

    /// Runs `run` on all of `units`; it must keep nothing of a batch that it does not finish.
    pub fn run(&mut self, units: &[Unit], mut run: impl FnMut(&[Unit]) -> Result<()>) -> Result<()> {
        let mut left = units;
        while !left.is_empty() {
            let (batch, rest) = left.split_at(self.size.min(left.len()));
            match caught(|| run(batch)) {
                Ok(()) => {}
                Err(Error::OutOfMemory(_)) if batch.len() > 1 => {
                    self.size = batch.len() / 2;
                    shim::empty_cuda_cache();
                    (self.told)(Event::SmallerBatch(self.size))?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            left = rest;
            self.done += batch.len();
            (self.told)(Event::Progress { done: self.done, total: self.total })?;
        }
        Ok(())
    }
}
