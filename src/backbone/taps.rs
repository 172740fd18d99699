use tch::Tensor;

use super::{MapKind, Observation, Wanted};

/// Collects what is wanted while a forward pass runs, and knows when nothing more is.
pub struct Taps<'a> {
    wanted: &'a Wanted<'a>,
    seen: Vec<(usize, Tensor)>,
    missing: usize,
}

impl<'a> Taps<'a> {
    /// Taps for one forward pass.
    pub fn new(wanted: &'a Wanted<'a>) -> Self {
        Taps { wanted, seen: vec![], missing: wanted.sites.iter().filter(|&&wanted| wanted).count() }
    }

    /// The map that is wanted at a site, if any.
    pub fn wants(&self, site: usize) -> Option<MapKind> {
        self.wanted.sites[site].then_some(self.wanted.map)
    }

    /// Takes a site's map `[B, H, n, m]`.
    pub fn take(&mut self, site: usize, map: Tensor) {
        self.seen.push((site, (self.wanted.keep)(site, map)));
        self.missing -= 1;
    }

    /// Whether the rest of the pass is of no use to the caller.
    pub fn done(&self) -> bool {
        self.missing == 0 && !self.wanted.prediction
    }

    /// What was seen, with the prediction if the pass ran to its end.
    pub fn finish(self, prediction: Option<Tensor>) -> Observation {
        Observation { maps: self.seen, prediction }
    }
}
