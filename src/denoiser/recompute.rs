//! Backpropagation segment by segment: each is recomputed with a graph from the saved state before it.

use tch::Tensor;

use super::{Capture, Captured, Denoiser, Pass, Recorder, SavedStates, State};
use crate::Result;
use crate::deltas::Patch;

/// Adds the gradient of `⟨captured, gradient⟩` to the leaves of the patch.
pub fn backward(
    denoiser: &(dyn Denoiser + Send + '_),
    saved: SavedStates,
    pass: &Pass,
    capture: &Capture,
    gradient: &Captured,
) -> Result<()> {
    let mut states = saved.0;
    let segments = denoiser.segments();
    // The gradients of the tensors of the state behind a segment; `None` where the results do not depend on it.
    let mut behind: Vec<Option<Tensor>> = vec![];
    if let Some(of_prediction) = &gradient.prediction {
        let last = leaves(&states.pop().expect("a prediction comes from the last state"));
        let prediction = denoiser.leave(&last, pass);
        step(&[(prediction, of_prediction.shallow_clone())]);
        behind = last.0.iter().map(grad_of).collect();
    } else {
        // Segments behind the last map were never run.
        states.truncate(segments.len());
    }
    let Some(first) = pass.patch.and_then(Patch::first_trained) else {
        return Ok(());
    };
    let last = states.len() - 1;
    for (index, (layers, state)) in segments.iter().cloned().zip(states).enumerate().rev() {
        if layers.end <= first {
            break;
        }
        // Nothing before the first trained layer needs a gradient.
        let input = if layers.start > first { leaves(&state) } else { state };
        let mut output = input.clone();
        let mut recorder = Recorder::of_part(capture, layers, capture.prediction || index < last);
        let complete = denoiser.segment(index, &mut output, pass, &mut recorder)?;

        let mut outputs: Vec<(Tensor, Tensor)> = vec![];
        // A tensor that a segment hands on unchanged keeps its gradient.
        let mut handed_on: Vec<Option<Tensor>> = input.0.iter().map(|_| None).collect();
        if complete {
            for (place, (tensor, gradient)) in output.0.into_iter().zip(behind).enumerate() {
                let Some(gradient) = gradient else { continue };
                match input.0.get(place) {
                    Some(own) if own.data_ptr() == tensor.data_ptr() => handed_on[place] = Some(gradient),
                    _ => outputs.push((tensor, gradient)),
                }
            }
        }
        for (layer, kept) in recorder.recorded() {
            let of_layer = gradient.maps.iter().find(|(other, _)| other == layer);
            outputs.extend(of_layer.map(|(_, gradient)| (kept.shallow_clone(), gradient.shallow_clone())));
        }
        step(&outputs);
        behind = input.0.iter().zip(handed_on).map(|(leaf, handed_on)| sum(grad_of(leaf), handed_on)).collect();
    }
    Ok(())
}

/// The tensors of a state as leaves of a new graph.
fn leaves(state: &State) -> State {
    State(state.0.iter().map(|x| x.detach().set_requires_grad(true)).collect())
}

fn grad_of(leaf: &Tensor) -> Option<Tensor> {
    let grad = leaf.grad();
    grad.defined().then_some(grad)
}

fn sum(one: Option<Tensor>, other: Option<Tensor>) -> Option<Tensor> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

/// Backpropagates the gradients of those outputs that have a graph.
fn step(outputs: &[(Tensor, Tensor)]) {
    let terms = outputs.iter().filter(|(output, _)| output.requires_grad());
    let total = terms.map(|(output, gradient)| (output * gradient).sum(output.kind())).reduce(|a, b| a + b);
    if let Some(total) = total {
        total.backward();
    }
}
