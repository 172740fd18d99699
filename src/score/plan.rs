//! Which evaluations of the denoiser a request needs, and in which order.

use std::collections::{HashMap, HashSet};

/// One evaluation of the denoiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Evaluation {
    /// Index of the image in its context.
    pub image: usize,
    /// Index of the text in its context.
    pub text: usize,
    /// Index of the time in its context.
    pub step: usize,
}

/// The evaluations that a request needs, each once: first those with a text, then those without.
pub struct EvaluationPlan {
    /// All evaluations, in the order in which they are run.
    pub evaluations: Vec<Evaluation>,
    with_text: usize,
}

impl EvaluationPlan {
    /// `steps` are the times of every pair, as indices. `no_text` is the index of the unconditional text, if the score
    /// needs its predictions.
    ///
    /// The texts of an image at a timestep are adjacent: layers that depend on the latent alone are computed once for
    /// all rows of a batch that share it.
    pub fn new(pairs: &[(usize, usize)], steps: &[usize], no_text: Option<usize>) -> Self {
        let mut seen = HashSet::new();
        let mut index_of = HashMap::new();
        let mut images: Vec<(usize, Vec<usize>)> = vec![];
        for &(image, text) in pairs {
            let at = *index_of.entry(image).or_insert_with(|| {
                images.push((image, vec![]));
                images.len() - 1
            });
            if seen.insert((image, text)) {
                images[at].1.push(text);
            }
        }
        let mut evaluations = Vec::with_capacity(seen.len() * steps.len());
        for (image, texts) in &images {
            for &step in steps {
                evaluations.extend(texts.iter().map(|&text| Evaluation { image: *image, text, step }));
            }
        }
        let with_text = evaluations.len();
        // All texts of an image share its noise, so one unconditional prediction serves them all.
        if let Some(text) = no_text {
            let image_steps = images.iter().flat_map(|&(image, _)| steps.iter().map(move |&step| (image, step)));
            evaluations.extend(image_steps.map(|(image, step)| Evaluation { image, text, step }));
        }
        EvaluationPlan { evaluations, with_text }
    }

    /// The evaluations with a text and those without; no batch may hold both.
    pub fn parts(&self) -> [&[Evaluation]; 2] {
        let (with, without) = self.evaluations.split_at(self.with_text);
        [with, without]
    }
}
