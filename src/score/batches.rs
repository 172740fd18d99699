//! Evaluations, as many at a time as memory allows.

use super::{Model, Unit};
use crate::torch::caught;
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
    size: usize,
    done: usize,
    total: usize,
    told: T,
}

impl<'a, T: FnMut(Event) -> Result<()>> Batches<'a, T> {
    /// Batches of `size` out of `total` evaluations of a model; `told` hears how far the work is.
    pub fn new(model: &'a Model, size: usize, total: usize, told: T) -> Self {
        Batches { model, size, done: 0, total, told }
    }

    /// Runs `run` on all of `units`; it must keep nothing of a batch that it does not finish.
    pub fn run(&mut self, units: &[Unit], mut run: impl FnMut(&[Unit]) -> Result<()>) -> Result<()> {
        let mut left = units;
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
