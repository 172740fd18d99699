//! Items as training sees them: encoded once, and what is compared with what.

use std::collections::{HashMap, VecDeque};

use tch::Tensor;

use super::loss::Question;
use crate::config::NegativeKinds;
use crate::encode::tokenizer::Tokens;

/// Bytes of encoded items that are kept; the oldest go first.
const BUDGET: usize = 4 << 30;

/// One item, encoded.
pub struct Item {
    /// `[n_images, C, h, w]`, float32.
    pub latents: Tensor,
    /// `[n_texts, m, D]`
    pub vectors: Tensor,
    pub tokens: Vec<Tokens>,
    pub texts: Vec<String>,
    /// `[n_images][n_texts]`
    pub matches: Vec<Vec<bool>>,
}

impl Item {
    fn bytes(&self) -> usize {
        [&self.latents, &self.vectors].iter().map(|x| x.numel() * x.kind().elt_size_in_bytes()).sum()
    }
}

/// Encoded items by the index that the caller gave them.
#[derive(Default)]
pub struct Cache {
    items: HashMap<usize, Item>,
    order: VecDeque<usize>,
    bytes: usize,
}

impl Cache {
    pub fn get(&self, index: usize) -> Option<&Item> {
        self.items.get(&index)
    }

    /// Keeps an item, and lets go of the oldest where there is no room.
    pub fn insert(&mut self, index: usize, item: Item) {
        self.bytes += item.bytes();
        if let Some(before) = self.items.insert(index, item) {
            self.bytes -= before.bytes();
            self.order.retain(|&other| other != index);
        }
        self.order.push_back(index);
        while self.bytes > BUDGET && self.order.len() > 1 {
            let oldest = self.order.pop_front().expect("more than one");
            self.bytes -= self.items.remove(&oldest).expect("listed items are kept").bytes();
        }
    }
}

/// What two things are to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Match,
    Mismatch,
    /// Not known; neither compared nor scored.
    Aside,
}

/// The pairs that a loss needs, and its questions about them.
pub struct Comparison {
    /// `(image, text)`
    pub pairs: Vec<(usize, usize)>,
    pub questions: Vec<Question>,
}

impl Comparison {
    /// Every matching pair against its mismatches of the kinds wanted; pairs without any are left out.
    pub fn new(relations: &[Vec<Relation>], kinds: NegativeKinds) -> Self {
        let mut comparison = Comparison { pairs: vec![], questions: vec![] };
        let mut place = HashMap::new();
        let (images, texts) = (relations.len(), relations[0].len());
        for i in 0..images {
            for j in (0..texts).filter(|&j| relations[i][j] == Relation::Match) {
                let other_images = (0..images).filter(|&other| relations[other][j] == Relation::Mismatch);
                let other_texts = (0..texts).filter(|&other| relations[i][other] == Relation::Mismatch);
                let mut find = |pair| {
                    *place.entry(pair).or_insert_with(|| {
                        comparison.pairs.push(pair);
                        comparison.pairs.len() - 1
                    })
                };
                let other_images: Vec<_> =
                    other_images.filter(|_| kinds != NegativeKinds::Text).map(|other| (other, j)).collect();
                let other_texts: Vec<_> =
                    other_texts.filter(|_| kinds != NegativeKinds::Image).map(|other| (i, other)).collect();
                if other_images.is_empty() && other_texts.is_empty() {
                    continue;
                }
                let question = Question {
                    positive: find((i, j)),
                    other_images: other_images.into_iter().map(&mut find).collect(),
                    other_texts: other_texts.into_iter().map(&mut find).collect(),
                };
                comparison.questions.push(question);
            }
        }
        comparison
    }

    /// The matching pairs alone, for a loss that compares nothing.
    pub fn matches(relations: &[Vec<Relation>]) -> Self {
        let pairs = relations.iter().enumerate().flat_map(|(i, row)| {
            row.iter().enumerate().filter(|(_, relation)| **relation == Relation::Match).map(move |(j, _)| (i, j))
        });
        Comparison { pairs: pairs.collect(), questions: vec![] }
    }
}

/// Several items as one. An image and a text of different items do not match, unless the text is one that the image
/// matches in its own item too: then nothing is said about them.
pub fn relations(items: &[&Item]) -> Vec<Vec<Relation>> {
    let mut rows = vec![];
    for (a, item) in items.iter().enumerate() {
        for own in &item.matches {
            let matching: Vec<&String> =
                item.texts.iter().zip(own).filter(|(_, yes)| **yes).map(|(text, _)| text).collect();
            let mut row = vec![];
            for (b, other) in items.iter().enumerate() {
                for (j, text) in other.texts.iter().enumerate() {
                    row.push(match a == b {
                        true if own[j] => Relation::Match,
                        false if matching.contains(&text) => Relation::Aside,
                        _ => Relation::Mismatch,
                    });
                }
            }
            rows.push(row);
        }
    }
    rows
}
