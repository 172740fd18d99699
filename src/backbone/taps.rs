use std::ops::Range;

use tch::Tensor;

use super::{MapKind, Observation, Wanted};
use crate::nn::{Digest, Digesting};

/// Collects what is wanted while a forward pass runs, and knows when nothing more is.
pub struct Taps<'a> {
    wanted: &'a Wanted<'a>,
    seen: Vec<(usize, Tensor)>,
    missing: usize,
    to_the_end: bool,
}

impl<'a> Taps<'a> {
    /// Taps for one forward pass.
    pub fn new(wanted: &'a Wanted<'a>) -> Self {
        Self::of_part(wanted, 0..wanted.sites.len(), wanted.prediction)
    }

    /// Taps for the part of a pass in which `sites` lie, which may end early unless it is to run `to_the_end`.
    pub fn of_part(wanted: &'a Wanted<'a>, sites: Range<usize>, to_the_end: bool) -> Self {
        let missing = wanted.sites[sites].iter().filter(|&&wanted| wanted).count();
        Taps { wanted, seen: vec![], missing, to_the_end }
    }

    /// The map that is wanted at a site, if any.
    pub fn wants(&self, site: usize) -> Option<MapKind> {
        self.wanted.sites[site].then_some(self.wanted.map)
    }

    /// How the map of a site is to be digested, if a digest is enough.
    pub fn digests(&self) -> Option<Digesting<'a>> {
        self.wanted.digest.filter(|_| self.wanted.alter.is_none()).map(|digest| digest.how)
    }

    /// Takes the digest of a site's map, where that is enough.
    pub fn take_digest(&mut self, site: usize, digest: &Digest) {
        let digested = self.wanted.digest.expect("a digest is given to those who asked for it");
        self.seen.push((site, (digested.keep)(site, digest)));
        self.missing -= 1;
    }

    /// Whether nothing is of use to the caller behind the next thing it takes.
    pub fn ends_here(&self) -> bool {
        self.missing == 1 && !self.to_the_end
    }

    /// Takes a site's map `[B, H, n, m]`, and gives back the map to go on with.
    pub fn take(&mut self, site: usize, map: Tensor) -> Tensor {
        let map = match self.wanted.alter {
            Some(alter) => alter(site, map),
            None => map,
        };
        self.seen.push((site, (self.wanted.keep)(site, &map)));
        self.missing -= 1;
        map
    }

    /// Whether the rest of the pass is of no use to the caller.
    pub fn done(&self) -> bool {
        self.missing == 0 && !self.to_the_end
    }

    /// What was seen so far: site index and what was kept.
    pub fn seen(&self) -> &[(usize, Tensor)] {
        &self.seen
    }

    /// What was seen, with the prediction if the pass ran to its end.
    pub fn finish(self, prediction: Option<Tensor>) -> Observation {
        Observation { maps: self.seen, prediction }
    }
}
