//! Scores of pairs, batch by batch, with as much memory as there is.

use std::collections::HashMap;

use tch::Device;

use super::Model;
use super::batches::{Batches, Event};
use super::plan::{Plan, Unit};
use super::scene::{Rows, Scene};
use crate::Result;
use crate::config::Method;
use crate::torch::{Coming, shim};

impl Scene<'_> {
    /// The scores of pairs of images and texts at some timesteps, `[pairs][steps]`; `steps` are indices into the
    /// timesteps.
    pub fn score(
        &self,
        pairs: &[(usize, usize)],
        steps: &[usize],
        told: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        let config = self.config;
        let plan = Plan::new(pairs, steps, config.compares_to_empty().then_some(self.empty_text));
        let pixels = self.latents.size()[2..].iter().product();
        let size = config.batch_size.unwrap_or_else(|| self.model.auto_batch(pixels));
        let mut values: HashMap<Unit, Value> = HashMap::with_capacity(plan.units.len());
        let mut batches = Batches::new(self.model, size, pixels, plan.units.len(), told);
        let mut read = |(units, numbers): (Vec<Unit>, Numbers)| {
            let found = numbers.read(units.len());
            values.extend(units.into_iter().zip(found));
        };
        // A batch is read when the next one is under way, so that a GPU need not wait for that.
        let mut last: Option<(Vec<Unit>, Numbers)> = None;
        for part in plan.parts() {
            batches.run(part, |units| {
                let rows = self.evaluate(units, config.method != Method::Attention)?;
                last.replace((units.to_vec(), Numbers::new(&rows))).map(&mut read);
                Ok(())
            })?;
        }
        last.map(&mut read);
        let score = |&(image, text): &(usize, usize), step: usize| {
            let at = Unit { image, text, step };
            let unit = values[&at];
            let empty = || values[&Unit { image, text: self.empty_text, step }].error;
            let help = if config.compares_to_empty() { empty() - unit.error } else { -unit.error };
            let score = match config.method {
                Method::Attention => unit.attention,
                Method::Denoising => help,
                Method::Combined => unit.attention + config.denoising_weight * help,
            };
            self.check(at, score).map(|()| score)
        };
        pairs.iter().map(|pair| steps.iter().map(|&step| score(pair, step)).collect()).collect()
    }
}

impl Model {
    /// Evaluations at a time: on the CPU one of 64×64 latents already fills the cores, a GPU wants many more, as far as
    /// its free memory goes.
    pub fn auto_batch(&self, latent_pixels: i64) -> usize {
        let pixels = latent_pixels as usize;
        let Device::Cuda(index) = self.device() else {
            return (4096 / pixels).clamp(1, 256);
        };
        let wanted = (64 * 4096 / pixels).clamp(1, 256);
        let room = shim::cuda_memory(index).map_or(wanted, |memory| memory.free / (pixels * BYTES_PER_PIXEL));
        wanted.min(room).max(1)
    }
}

/// Upper estimate of what one evaluation of Stable Diffusion's UNet takes on a GPU, by latent pixel: 256 MiB at 64×64.
const BYTES_PER_PIXEL: usize = 64 << 10;

/// What one evaluation of the UNet gives, as numbers.
#[derive(Clone, Copy)]
struct Value {
    attention: f64,
    error: f64,
}

/// What a batch gives, perhaps still being computed.
struct Numbers {
    attention: Option<Coming>,
    error: Option<Coming>,
}

impl Numbers {
    fn new(rows: &Rows) -> Self {
        let [attention, error] = [&rows.attention, &rows.error].map(|tensor| tensor.as_ref().map(Coming::new));
        Numbers { attention, error }
    }

    fn read(self, count: usize) -> impl Iterator<Item = Value> {
        let [attention, error] =
            [self.attention, self.error].map(|numbers| numbers.map_or_else(|| vec![0.0; count], Coming::read));
        attention.into_iter().zip(error).map(|(attention, error)| Value { attention, error })
    }
}
