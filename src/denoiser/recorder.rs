use std::ops::Range;

use tch::Tensor;

use super::{Capture, Captured, MapKind};
use crate::pooling::{FusedPooling, PooledAttention};

/// Records what is captured of one forward pass, and knows when nothing more is wanted.
pub struct Recorder<'a> {
    capture: &'a Capture<'a>,
    seen: Vec<(usize, Tensor)>,
    missing: usize,
    to_the_end: bool,
}

impl<'a> Recorder<'a> {
    /// The recorder of one forward pass.
    pub fn new(capture: &'a Capture<'a>) -> Self {
        Self::of_part(capture, 0..capture.layers.len(), capture.prediction)
    }

    /// The recorder of the part of a pass in which `layers` lie, which may end early unless it is to run `to_the_end`.
    pub fn of_part(capture: &'a Capture<'a>, layers: Range<usize>, to_the_end: bool) -> Self {
        let missing = capture.layers[layers].iter().filter(|&&wanted| wanted).count();
        Recorder { capture, seen: vec![], missing, to_the_end }
    }

    /// The map that is wanted at a layer, if any.
    pub fn wants(&self, layer: usize) -> Option<MapKind> {
        self.capture.layers[layer].then_some(self.capture.map)
    }

    /// How the rows of a layer's map are to be pooled, if no more of it is used.
    pub fn pools(&self) -> Option<FusedPooling<'a>> {
        self.capture.pooled.filter(|_| self.capture.alter.is_none()).map(|pooled| pooled.how)
    }

    /// Records the pooled rows of a layer's map, where no more of it is used.
    pub fn record_pooled(&mut self, layer: usize, pooled: &PooledAttention) {
        let asked = self.capture.pooled.expect("pooled rows are given to those who asked for them");
        self.seen.push((layer, (asked.keep)(layer, pooled)));
        self.missing -= 1;
    }

    /// Whether nothing is of use to the caller behind the next map that is recorded.
    pub fn ends_here(&self) -> bool {
        self.missing == 1 && !self.to_the_end
    }

    /// Records a layer's map `[B, H, n, m]`, and gives back the map to go on with.
    pub fn record(&mut self, layer: usize, map: Tensor) -> Tensor {
        let map = match self.capture.alter {
            Some(alter) => alter(layer, map),
            None => map,
        };
        self.seen.push((layer, (self.capture.keep)(layer, &map)));
        self.missing -= 1;
        map
    }

    /// Whether the rest of the pass is of no use to the caller.
    pub fn done(&self) -> bool {
        self.missing == 0 && !self.to_the_end
    }

    /// What was seen so far: layer index and what was kept.
    pub fn seen(&self) -> &[(usize, Tensor)] {
        &self.seen
    }

    /// What was seen, with the prediction if the pass ran to its end.
    pub fn finish(self, prediction: Option<Tensor>) -> Captured {
        Captured { maps: self.seen, prediction }
    }
}
