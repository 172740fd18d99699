use std::collections::{HashMap, HashSet};

/// One evaluation of the denoiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Evaluation {
    pub image: usize,
    pub text: usize,
    /// Index into the times.
    pub step: usize,
}

/// The evaluations that a request needs, each once: those with a text first, then those without.
pub struct EvaluationPlan {
    pub evaluations: Vec<Evaluation>,
    with_text: usize,
}

impl EvaluationPlan {
    /// `steps` are the times of every pair, as indices. `no_text` is the index of what stands for no text, if scores are
    /// compared with it.
    ///
    /// The texts of an image at a timestep stand side by side, since what depends on the latent alone is computed once
    /// for all of them that share a batch.
    pub fn new(pairs: &[(usize, usize)], steps: &[usize], no_text: Option<usize>) -> Self {
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
        let mut evaluations = Vec::with_capacity(seen.len() * steps.len());
        for (image, texts) in &images {
            for &step in steps {
                evaluations.extend(texts.iter().map(|&text| Evaluation { image: *image, text, step }));
            }
        }
        let with_text = evaluations.len();
        // The noise is shared, so one pass without text of an image serves all its texts, exactly.
        if let Some(text) = no_text {
            let image_steps = images.iter().flat_map(|&(image, _)| steps.iter().map(move |&step| (image, step)));
            evaluations.extend(image_steps.map(|(image, step)| Evaluation { image, text, step }));
        }
        EvaluationPlan { evaluations, with_text }
    }

    /// The evaluations with a text and those without, which share no batch.
    pub fn parts(&self) -> [&[Evaluation]; 2] {
        let (with, without) = self.evaluations.split_at(self.with_text);
        [with, without]
    }
}
