//! The items that are compared with each other, and their evaluations.

use super::item::{ComparedPairs, Item, Relation, relations};
use crate::config::{Loss, TrainConfig};
use crate::score::Evaluation;

/// Items whose images and texts are compared with each other: one item, or with `in_batch` all items of a batch.
pub struct ItemGroup {
    /// The pairs that are scored, and how they are compared.
    pub compared: ComparedPairs,
    /// The texts whose prior is subtracted; empty without a prior, or where it cancels.
    pub prior_texts: Vec<usize>,
    /// Index of the group's first image in the context.
    pub first_image: usize,
    /// Index of the group's first text in the context.
    pub first_text: usize,
    /// The group's times in the context.
    pub steps: std::ops::Range<usize>,
}

impl ItemGroup {
    /// The group of some items, whose first image and first text have the indices `at` in the context. `prior` says
    /// whether the score has a prior. The items' texts are followed by `others` texts that match none of their images.
    pub fn new(
        items: &[&Item],
        others: usize,
        options: &TrainConfig,
        prior: bool,
        at: [usize; 2],
        steps: std::ops::Range<usize>,
    ) -> Self {
        let mut relations = relations(&items.iter().map(|item| item.labels()).collect::<Vec<_>>());
        relations.iter_mut().for_each(|row| row.extend(vec![Relation::Mismatch; others]));
        let compared = match options.loss {
            Loss::Diffusion => ComparedPairs::matches(&relations),
            _ => ComparedPairs::new(&relations, options.negative_kinds),
        };
        let prior_texts = if prior { compared.texts_with_prior(options.loss) } else { vec![] };
        ItemGroup { compared, prior_texts, first_image: at[0], first_text: at[1], steps }
    }

    /// The evaluations of the matching pairs.
    pub fn matching(&self) -> Vec<Evaluation> {
        let positives: Vec<usize> = match self.compared.comparisons.as_slice() {
            [] => (0..self.compared.pairs.len()).collect(),
            comparisons => comparisons.iter().map(|comparison| comparison.positive).collect(),
        };
        let of =
            |step| positives.iter().map(move |&i| self.evaluation(self.compared.pairs[i], step)).collect::<Vec<_>>();
        self.steps.clone().flat_map(of).collect()
    }

    /// The evaluation of a pair at one of its timesteps.
    pub fn evaluation(&self, (image, text): (usize, usize), step: usize) -> Evaluation {
        Evaluation { image: self.first_image + image, text: self.first_text + text, step }
    }

    /// The evaluation of a text with an image that is none of the group's, `null` in the context.
    pub fn with_null(&self, null: usize, text: usize, step: usize) -> Evaluation {
        Evaluation { image: null, text: self.first_text + text, step }
    }
}
