use super::item::{Comparison, Item, relations};
use crate::config::{Loss, TrainConfig};
use crate::score::Evaluation;

/// One question of a batch: an item, or all items of the batch as one.
pub struct ItemGroup {
    pub comparison: Comparison,
    /// Where its images, texts and times begin among those of the context.
    pub first_image: usize,
    pub first_text: usize,
    pub steps: std::ops::Range<usize>,
}

impl ItemGroup {
    /// What a loss needs to know of some items.
    pub fn new(items: &[&Item], options: &TrainConfig, at: [usize; 2], steps: std::ops::Range<usize>) -> Self {
        let relations = relations(&items.iter().map(|item| item.labels()).collect::<Vec<_>>());
        let comparison = match options.loss {
            Loss::Diffusion => Comparison::matches(&relations),
            _ => Comparison::new(&relations, options.negative_kinds),
        };
        ItemGroup { comparison, first_image: at[0], first_text: at[1], steps }
    }

    /// The evaluations of its matching pairs.
    pub fn matching(&self) -> Vec<Evaluation> {
        let positives: Vec<usize> = match self.comparison.questions.as_slice() {
            [] => (0..self.comparison.pairs.len()).collect(),
            questions => questions.iter().map(|question| question.positive).collect(),
        };
        let of =
            |step| positives.iter().map(move |&i| self.evaluation(self.comparison.pairs[i], step)).collect::<Vec<_>>();
        self.steps.clone().flat_map(of).collect()
    }

    /// The evaluation of a pair at one of its timesteps.
    pub fn evaluation(&self, (image, text): (usize, usize), step: usize) -> Evaluation {
        Evaluation { image: self.first_image + image, text: self.first_text + text, step }
    }

    /// The same image at the same timestep, without text.
    pub fn without_text(&self, (image, _): (usize, usize), step: usize, no_text: usize) -> Evaluation {
        Evaluation { image: self.first_image + image, text: no_text, step }
    }
}
