use std::ops::Range;

use tch::Tensor;

use super::{Capture, Captured, MapKind};
use crate::pooling::{FusedPooling, PooledAttention};

/// Records the wanted results of one forward pass, and tells the network when it can stop.
pub struct Recorder<'a> {
    capture: &'a Capture<'a>,
    recorded: Vec<(usize, Tensor)>,
    /// Number of wanted maps that are not recorded yet.
    missing: usize,
    to_the_end: bool,
}

impl<'a> Recorder<'a> {
    /// The recorder of one forward pass.
    pub fn new(capture: &'a Capture<'a>) -> Self {
        Self::of_part(capture, 0..capture.layers.len(), capture.prediction)
    }

    /// The recorder of a part of a pass with the attention layers `layers`. The part may stop early unless it must run
    /// `to_the_end`.
    pub fn of_part(capture: &'a Capture<'a>, layers: Range<usize>, to_the_end: bool) -> Self {
        let missing = capture.layers[layers].iter().filter(|&&wanted| wanted).count();
        Recorder { capture, recorded: vec![], missing, to_the_end }
    }

    /// The kind of map that is wanted of a layer, if any.
    pub fn wants(&self, layer: usize) -> Option<MapKind> {
        self.capture.layers[layer].then_some(self.capture.map)
    }

    /// How to pool the rows of wanted maps, if nothing else of the maps is needed.
    pub fn pools(&self) -> Option<FusedPooling<'a>> {
        self.capture.pooled.filter(|_| self.capture.alter.is_none()).map(|pooled| pooled.how)
    }

    /// Records the pooled rows of a layer's map, if [`Self::pools`] asked for them.
    pub fn record_pooled(&mut self, layer: usize, pooled: &PooledAttention) {
        let capture = self.capture.pooled.expect("pooled rows are recorded only where they are wanted");
        self.recorded.push((layer, (capture.keep)(layer, pooled)));
        self.missing -= 1;
    }

    /// Whether the next recorded map is the last result that the caller wants.
    pub fn ends_here(&self) -> bool {
        self.missing == 1 && !self.to_the_end
    }

    /// Records a layer's map `[B, H, n, m]`, and returns the map that the network continues with.
    pub fn record(&mut self, layer: usize, map: Tensor) -> Tensor {
        let map = match self.capture.alter {
            Some(alter) => alter(layer, map),
            None => map,
        };
        self.recorded.push((layer, (self.capture.keep)(layer, &map)));
        self.missing -= 1;
        map
    }

    /// Whether all wanted results are recorded.
    pub fn done(&self) -> bool {
        self.missing == 0 && !self.to_the_end
    }

    /// The results recorded so far: layer indices and the results of `keep`.
    pub fn recorded(&self) -> &[(usize, Tensor)] {
        &self.recorded
    }

    /// All results, with the prediction if the pass ran to its end.
    pub fn finish(self, prediction: Option<Tensor>) -> Captured {
        Captured { maps: self.recorded, prediction }
    }
}
