//! Stage 5: a noised latent, a time and a conditioning become attention maps and a prediction.
//!
//! Observation is a return value, never a hook: the caller says what it wants in a [`Capture`], and what it does not want is
//! never formed. Layers that are not captured run fused attention; nothing is computed after the last thing asked for. Maps
//! stay in the autograd graph where there is one.
//!
//! A family's network is a [`Denoiser`]: a sequence of segments. Evaluation, observation, early exit and recomputation are
//! written once, here.

mod attention;
mod batch;
mod recompute;
mod recorder;

use std::ops::Range;

use tch::Tensor;

pub use attention::Attention;
pub use batch::{Batch, CONSISTENCY_GUIDANCE, MicroConditions, RowIndex, TextCache};
pub use recorder::Recorder;

use crate::Result;
pub use crate::config::MapKind;
pub use crate::deltas::AttentionLayer;
use crate::deltas::{Architecture, Patch, Target};
use crate::pooling::{FusedPooling, PooledAttention};

/// What a caller wants to see of one evaluation.
pub struct Capture<'a> {
    /// By layer index, whether the layer's map is wanted.
    pub layers: &'a [bool],
    pub map: MapKind,
    /// What to keep of a layer's map `[B, H, n, m]`, given the layer's index; it runs as soon as the map is formed, so
    /// that a caller who pools never holds all maps at once.
    pub keep: &'a dyn Fn(usize, &Tensor) -> Tensor,
    /// Where no more than pooled rows of the map are used: it then takes the place of `keep`, and the map need not be
    /// formed. The two must agree, since either may be called.
    pub pooled: Option<PooledCapture<'a>>,
    /// What becomes of a layer's map before it is kept and, where it is the logits or the probabilities, before the
    /// network goes on with it.
    pub alter: Option<&'a dyn Fn(usize, Tensor) -> Tensor>,
    /// Whether the network's output is wanted.
    pub prediction: bool,
}

/// What to keep of the pooled rows of a layer's map.
#[derive(Clone, Copy)]
pub struct PooledCapture<'a> {
    pub how: FusedPooling<'a>,
    /// Given the layer's index and its pooled map.
    pub keep: &'a dyn Fn(usize, &PooledAttention) -> Tensor,
}

impl<'a> Capture<'a> {
    /// The maps of some layers, and what to keep of each.
    pub fn maps(layers: &'a [bool], map: MapKind, keep: &'a dyn Fn(usize, &Tensor) -> Tensor) -> Self {
        Capture { layers, map, keep, pooled: None, alter: None, prediction: false }
    }

    /// The prediction alone; `layers` are none of the model's.
    pub fn prediction(layers: &'a [bool]) -> Self {
        let capture = Capture::maps(layers, MapKind::Probs, &|_, map| map.shallow_clone());
        Capture { prediction: true, ..capture }
    }
}

/// What was captured.
pub struct Captured {
    /// Layer index and what `keep` made of its map, in forward order.
    pub maps: Vec<(usize, Tensor)>,
    /// `[B, C, h, w]`, if it was wanted.
    pub prediction: Option<Tensor>,
}

/// What flows from segment to segment, such as a hidden state and what skip connections take past others.
pub struct State(pub Vec<Tensor>);

impl Clone for State {
    /// Shares the numbers.
    fn clone(&self) -> Self {
        State(self.0.iter().map(Tensor::shallow_clone).collect())
    }
}

/// The states before each segment of one evaluation, from which it can be repeated segment by segment.
pub struct SavedStates(Vec<State>);

/// What every segment of one evaluation is given.
pub struct Pass<'a> {
    pub batch: &'a Batch<'a>,
    pub patch: Option<&'a Patch>,
    /// What the family computes once for all segments, such as the embedding of the time.
    pub shared: Vec<Tensor>,
}

/// A denoising network whose attention to the text can be observed.
pub trait Denoiser {
    /// Its attention layers in forward order, and what deltas can be added to.
    fn architecture(&self) -> &Architecture;

    /// The weight `[out, in]` that a delta would be added to.
    fn weight(&self, target: Target) -> &Tensor;

    /// By segment, the layers that lie in it.
    fn segments(&self) -> Vec<Range<usize>>;

    /// What all segments share.
    fn pass<'a>(&self, batch: &'a Batch<'a>, patch: Option<&'a Patch>) -> Pass<'a>;

    /// The state before the first segment.
    fn enter(&self, pass: &Pass) -> State;

    /// Takes the state through a segment; false if nothing more is wanted.
    fn segment(&self, index: usize, state: &mut State, pass: &Pass, recorder: &mut Recorder) -> Result<bool>;

    /// The prediction `[B, C, h, w]` from the state after the last segment.
    fn leave(&self, state: &State, pass: &Pass) -> Tensor;

    /// Number of parameters.
    fn parameters(&self) -> usize;

    /// Whether it reads the guidance scale (latent consistency models).
    fn reads_guidance(&self) -> bool {
        false
    }

    /// Whether it reads sizes ([`MicroConditions`]).
    fn reads_sizes(&self) -> bool {
        false
    }
}

impl dyn Denoiser + Send + '_ {
    /// One evaluation of a batch; latents and conditioning are on the network's device and in its data type.
    pub fn observe(&self, batch: &Batch, patch: Option<&Patch>, capture: &Capture) -> Result<Captured> {
        self.run(batch, patch, capture, |_| ())
    }

    /// The same without a graph, keeping what [`Self::backward`] needs: one state a segment.
    pub fn observe_saving(
        &self,
        batch: &Batch,
        patch: Option<&Patch>,
        capture: &Capture,
    ) -> Result<(Captured, SavedStates)> {
        let mut states = vec![];
        let captured = self.run(batch, patch, capture, |state| states.push(state.clone()))?;
        Ok((captured, SavedStates(states)))
    }

    /// Backpropagates `gradient` of what was captured, repeating one segment at a time with a graph: less memory for one
    /// more forward pass. Gradients are added to those of the patch's leaves.
    pub fn backward(
        &self,
        saved: SavedStates,
        batch: &Batch,
        patch: Option<&Patch>,
        capture: &Capture,
        gradient: &Captured,
    ) -> Result<()> {
        recompute::backward(self, saved, &self.pass(batch, patch), capture, gradient)
    }

    /// All segments in order; `before` sees the state that each one starts from.
    fn run(
        &self,
        batch: &Batch,
        patch: Option<&Patch>,
        capture: &Capture,
        mut before: impl FnMut(&State),
    ) -> Result<Captured> {
        let mut recorder = Recorder::new(capture);
        if recorder.done() {
            return Ok(recorder.finish(None));
        }
        let pass = self.pass(batch, patch);
        let mut state = self.enter(&pass);
        for index in 0..self.segments().len() {
            before(&state);
            if !self.segment(index, &mut state, &pass, &mut recorder)? {
                return Ok(recorder.finish(None));
            }
        }
        before(&state);
        let prediction = self.leave(&state, &pass);
        Ok(recorder.finish(Some(prediction)))
    }
}
