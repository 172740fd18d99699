//! Stage 5: a noised latent, a time and a conditioning become attention maps and a prediction.
//!
//! Maps are returned, not delivered to hooks: a [`Capture`] lists the wanted layers, and only their maps are
//! materialised. Other layers run fused attention, and the network stops after the last wanted output. Maps stay in the
//! autograd graph if there is one.
//!
//! A family's network is a [`Denoiser`], a sequence of segments. Evaluation, capture, early exit and recomputation are
//! implemented here once, for all families.

mod attention;
mod batch;
mod joint;
mod recompute;
mod recorder;

use std::ops::Range;

use tch::Tensor;

pub use attention::{Attention, project};
pub use batch::{Batch, CONSISTENCY_GUIDANCE, MicroConditions, RowIndex, TextCache};
pub use joint::{ImageTokens, TextTokens, joint_attention};
pub use recorder::Recorder;

use crate::Result;
pub use crate::config::MapKind;
pub use crate::deltas::AttentionLayer;
use crate::deltas::{Architecture, Patch, Target};
use crate::pooling::{FusedPooling, PooledAttention};

/// What a caller wants of one evaluation.
pub struct Capture<'a> {
    /// For each layer index, whether the layer's map is wanted.
    pub layers: &'a [bool],
    /// The kind of map: logits, probabilities or cosines.
    pub map: MapKind,
    /// A function of a layer's index and map `[B, H, n, m]`, whose result is returned in place of the map. It is called
    /// as soon as the map is formed, so that pooling never holds all maps at once.
    pub keep: &'a dyn Fn(usize, &Tensor) -> Tensor,
    /// An alternative to `keep` for callers that need only the pooled rows of maps, which then need not be
    /// materialised. It must agree with `keep`, since either may be called.
    pub pooled: Option<PooledCapture<'a>>,
    /// A function that replaces a layer's map before it is kept. If the map is of logits or probabilities, the network
    /// goes on with the replacement.
    pub alter: Option<&'a dyn Fn(usize, Tensor) -> Tensor>,
    /// Whether the network's prediction is wanted.
    pub prediction: bool,
}

/// How to pool the rows of wanted maps, and what to keep of them.
#[derive(Clone, Copy)]
pub struct PooledCapture<'a> {
    /// How the rows are pooled.
    pub how: FusedPooling<'a>,
    /// A function of a layer's index and pooled map, whose result is returned.
    pub keep: &'a dyn Fn(usize, &PooledAttention) -> Tensor,
}

impl<'a> Capture<'a> {
    /// A capture of the maps of some layers, of which `keep` is returned.
    pub fn maps(layers: &'a [bool], map: MapKind, keep: &'a dyn Fn(usize, &Tensor) -> Tensor) -> Self {
        Capture { layers, map, keep, pooled: None, alter: None, prediction: false }
    }

    /// A capture of the prediction alone; `layers` must be all false.
    pub fn prediction(layers: &'a [bool]) -> Self {
        let capture = Capture::maps(layers, MapKind::Probs, &|_, map| map.shallow_clone());
        Capture { prediction: true, ..capture }
    }
}

/// The captured results of one evaluation.
pub struct Captured {
    /// Layer indices and the results of `keep`, in forward order.
    pub maps: Vec<(usize, Tensor)>,
    /// The prediction `[B, C, h, w]`, if it was wanted.
    pub prediction: Option<Tensor>,
}

/// The tensors that one segment hands to the next, such as the hidden state and the tensors of skip connections.
pub struct State(pub Vec<Tensor>);

impl Clone for State {
    /// A state of other handles of the same tensors.
    fn clone(&self) -> Self {
        State(self.0.iter().map(Tensor::shallow_clone).collect())
    }
}

/// The states before each segment of one evaluation, from which it can be recomputed segment by segment.
pub struct SavedStates(Vec<State>);

/// The inputs that all segments of one evaluation share.
pub struct Pass<'a> {
    /// The latents, times and texts.
    pub batch: &'a Batch<'a>,
    /// The deltas, as the network applies them.
    pub patch: Option<&'a Patch>,
    /// Tensors that the family computes once for all segments, such as the embedding of the time.
    pub shared: Vec<Tensor>,
}

/// A denoising network whose attention to the text can be observed.
pub trait Denoiser {
    /// The attention layers in forward order, and the weights that deltas can be added to.
    fn architecture(&self) -> &Architecture;

    /// The weight `[out, in]` of a target.
    fn weight(&self, target: Target) -> &Tensor;

    /// For each segment, the indices of its attention layers.
    fn segments(&self) -> &[Range<usize>];

    /// The inputs of all segments.
    fn pass<'a>(&self, batch: &'a Batch<'a>, patch: Option<&'a Patch>) -> Pass<'a>;

    /// The state before the first segment.
    fn enter(&self, pass: &Pass) -> State;

    /// Runs a segment, which replaces the state; returns false if the recorder wants nothing more.
    ///
    /// # Errors
    /// `Interrupted`, if the user asked for it.
    fn segment(&self, index: usize, state: &mut State, pass: &Pass, recorder: &mut Recorder) -> Result<bool>;

    /// The prediction `[B, C, h, w]` from the state after the last segment.
    fn leave(&self, state: &State, pass: &Pass) -> Tensor;

    /// Number of parameters.
    fn parameters(&self) -> usize;

    /// Whether the guidance scale is an input of the network (latent consistency models).
    fn reads_guidance(&self) -> bool {
        false
    }

    /// Whether sizes are inputs of the network ([`MicroConditions`]).
    fn reads_sizes(&self) -> bool {
        false
    }

    /// Side of the square of latent pixels that is one image token; sides of latents are multiples of it.
    fn patch_size(&self) -> i64 {
        1
    }

    /// The largest side of latents, if there is one.
    fn largest_side(&self) -> Option<i64> {
        None
    }
}

impl dyn Denoiser + Send + '_ {
    /// Evaluates the network once for a batch, whose latents and conditioning are on the network's device and in its
    /// data type.
    ///
    /// # Errors
    /// `Interrupted`, if the user asked for it.
    pub fn observe(&self, batch: &Batch, patch: Option<&Patch>, capture: &Capture) -> Result<Captured> {
        self.run(batch, patch, capture, |_| ())
    }

    /// [`Self::observe`] without a graph, which also saves the state before each segment for [`Self::backward`].
    ///
    /// # Errors
    /// As [`Self::observe`].
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

    /// Backpropagates the `gradient` of captured results. It recomputes one segment at a time with a graph, which costs
    /// one more forward pass and saves memory. Gradients are added to those of the patch's leaves.
    ///
    /// # Errors
    /// As [`Self::observe`].
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

    /// Runs all segments in order; `before` is called with the state before each segment and after the last one.
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
