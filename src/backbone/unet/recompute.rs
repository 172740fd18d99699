//! Backpropagation block by block: each is run again from the hidden state before it, now with a graph.

use tch::Tensor;

use super::super::{Boundaries, Hidden, Observation, Taps, Wanted};
use super::{Pass, UNet};
use crate::Result;
use crate::deltas::Patch;

/// The gradient with respect to a hidden state; `None` where nothing depends on it.
#[derive(Default)]
struct Gradient {
    x: Option<Tensor>,
    skips: Vec<Option<Tensor>>,
}

/// Adds the gradient of `⟨seen, gradient⟩` to the leaves of the patch.
pub fn backward(
    unet: &UNet,
    boundaries: Boundaries,
    pass: &Pass,
    wanted: &Wanted,
    gradient: &Observation,
) -> Result<()> {
    let mut states = boundaries.0;
    let blocks = unet.blocks();
    let mut behind = Gradient::default();
    if let Some(of_prediction) = &gradient.prediction {
        let last = leaf(states.pop().expect("a prediction comes from the last hidden state"));
        let prediction = unet.leave(&last.x, pass.batch);
        step(&[(&prediction, of_prediction)]);
        behind = Gradient { x: grad_of(&last.x), skips: vec![] };
    } else {
        // Blocks behind the last map were never run.
        states.truncate(blocks.len());
    }
    let Some(first) = pass.patch.and_then(Patch::first_trained) else {
        return Ok(());
    };
    let last = states.len() - 1;
    let mut sites_end: usize = blocks[..states.len()].iter().map(|block| block.transformers().len()).sum();
    for (i, (block, state)) in blocks.iter().zip(states).enumerate().rev() {
        let sites = sites_end - block.transformers().len()..sites_end;
        sites_end = sites.start;
        if sites.end <= first {
            break;
        }
        // Nothing before the first trained layer needs a gradient.
        let input = if sites.start > first { leaf(state) } else { state };
        let mut hidden = input.clone();
        let mut taps = Taps::of_part(wanted, sites, wanted.prediction || i < last);
        let complete = block.forward(&mut hidden, pass, &mut taps)?;

        let mut outputs: Vec<(&Tensor, &Tensor)> = vec![];
        if complete {
            outputs.extend(behind.x.iter().map(|gradient| (&hidden.x, gradient)));
        }
        let kept = input.skips.len() - block.takes();
        for (skip, gradient) in hidden.skips.iter().zip(&behind.skips).skip(kept) {
            outputs.extend(gradient.iter().map(|gradient| (skip, gradient)));
        }
        for (site, seen) in taps.seen() {
            let of_site = gradient.maps.iter().find(|(other, _)| other == site);
            outputs.extend(of_site.map(|(_, gradient)| (seen, gradient)));
        }
        step(&outputs);

        let mut skips: Vec<Option<Tensor>> = behind.skips.drain(..kept.min(behind.skips.len())).collect();
        skips.resize_with(kept, || None);
        skips.extend(input.skips[kept..].iter().map(grad_of));
        behind = Gradient { x: grad_of(&input.x), skips };
    }
    Ok(())
}

/// The hidden state as leaves of a new graph.
fn leaf(hidden: Hidden) -> Hidden {
    let leaf = |x: &Tensor| x.detach().set_requires_grad(true);
    Hidden { x: leaf(&hidden.x), skips: hidden.skips.iter().map(leaf).collect() }
}

fn grad_of(leaf: &Tensor) -> Option<Tensor> {
    let grad = leaf.grad();
    grad.defined().then_some(grad)
}

/// Backpropagates through what has a graph.
fn step(outputs: &[(&Tensor, &Tensor)]) {
    let terms = outputs.iter().filter(|(output, _)| output.requires_grad());
    let sum = terms.map(|(output, gradient)| (*output * *gradient).sum(output.kind())).reduce(|a, b| a + b);
    if let Some(sum) = sum {
        sum.backward();
    }
}
