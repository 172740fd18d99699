//! Scores of pairs, batch by batch, with as much memory as there is.

use std::collections::HashMap;

use tch::{Device, Tensor};

use super::Model;
use super::batches::{Batches, Event};
use super::plan::{Plan, Unit};
use super::scene::{Rows, Scene};
use crate::Result;
use crate::config::Method;
use crate::torch::{shim, to_vec64};

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
        let mut batches = Batches::new(size, plan.units.len(), told);
        for part in plan.parts() {
            batches.run(part, |units| {
                let rows = self.evaluate(units, config.method != Method::Attention)?;
                values.extend(units.iter().copied().zip(Value::of(&rows, units.len())));
                Ok(())
            })?;
        }
        let score = |&(image, text): &(usize, usize), step: usize| {
            let unit = values[&Unit { image, text, step }];
            let empty = || values[&Unit { image, text: self.empty_text, step }].error;
            let help = if config.compares_to_empty() { empty() - unit.error } else { -unit.error };
            match config.method {
                Method::Attention => unit.attention,
                Method::Denoising => help,
                Method::Combined => unit.attention + config.denoising_weight * help,
            }
        };
        Ok(pairs.iter().map(|pair| steps.iter().map(|&step| score(pair, step)).collect()).collect())
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

impl Value {
    fn of(rows: &Rows, count: usize) -> impl Iterator<Item = Value> {
        let numbers = |tensor: &Option<Tensor>| match tensor {
            Some(tensor) => to_vec64(tensor),
            None => vec![0.0; count],
        };
        let (attention, error) = (numbers(&rows.attention), numbers(&rows.error));
        attention.into_iter().zip(error).map(|(attention, error)| Value { attention, error })
    }
}
