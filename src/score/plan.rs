use std::collections::{HashMap, HashSet};

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
    /// `steps` are the timesteps of every pair. `empty_text` is the index of the empty text, behind the request's own, if scores are compared with it.
    ///
    /// The texts of an image at a timestep stand side by side, since what depends on the latent alone is computed once
    /// for all of them that share a batch.
    pub fn new(pairs: &[(usize, usize)], steps: &[usize], empty_text: Option<usize>) -> Self {
        let mut seen = HashSet::new();
        let mut place = HashMap::new();
        let mut images: Vec<(usize, Vec<usize>)> = vec![];
        for &(image, text) in pairs {
            let at = *place.entry(image).or_insert_with(|| {
                images.push((image, vec![]));
                images.len() - 1
            });
            if seen.insert((image, text)) {
                images[at].1.push(text);
            }
        }
        let mut units = Vec::with_capacity(seen.len() * steps.len());
        for (image, texts) in &images {
            for &step in steps {
                units.extend(texts.iter().map(|&text| Unit { image: *image, text, step }));
            }
        }
        let conditional = units.len();
        // The noise is shared, so one unconditional pass of an image serves all its texts, exactly.
        if let Some(text) = empty_text {
            let image_steps = images.iter().flat_map(|&(image, _)| steps.iter().map(move |&step| (image, step)));
            units.extend(image_steps.map(|(image, step)| Unit { image, text, step }));
        }
        Plan { units, conditional }
    }

    /// The evaluations with a text and those without, which share no batch.
    pub fn parts(&self) -> [&[Unit]; 2] {
        let (with, without) = self.units.split_at(self.conditional);
        [with, without]
    }
}
