use std::collections::HashSet;

/// One evaluation of the UNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unit {
    pub image: usize,
    pub text: usize,
    /// Index into the timesteps.
    pub step: usize,
}

/// The evaluations that a request needs, each once: those with a text first, then those without.
pub struct Plan {
    pub units: Vec<Unit>,
    conditional: usize,
}

impl Plan {
    /// `empty_text` is the index of the empty text, behind the request's own, if scores are compared with it.
    pub fn new(pairs: &[(usize, usize)], steps: usize, empty_text: Option<usize>) -> Self {
        // The noise is shared, so one unconditional pass of an image serves all its texts, exactly.
        let unconditional = pairs.iter().filter_map(|&(image, _)| Some((image, empty_text?)));
        let mut seen = HashSet::new();
        let mut units = vec![];
        let mut conditional = 0;
        for (image, text) in pairs.iter().copied().chain(unconditional) {
            if seen.insert((image, text)) {
                units.extend((0..steps).map(|step| Unit { image, text, step }));
                conditional += if Some(text) == empty_text { 0 } else { steps };
            }
        }
        Plan { units, conditional }
    }

    /// Batches of at most `size`; none mixes evaluations with and without a text.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = &[Unit]> {
        let (with, without) = self.units.split_at(self.conditional);
        with.chunks(size).chain(without.chunks(size))
    }
}
