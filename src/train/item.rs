//! Items as training sees them: encoded once, and what is compared with what.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use tch::Tensor;

use super::loss::Question;
use crate::config::NegativeKinds;
use crate::encode::Conditioning;
use crate::encode::image::Rgb;
use crate::encode::text::Tokens;

/// Bytes of encoded items that are kept; the oldest go first.
const BUDGET: usize = 4 << 30;

/// One item, encoded.
pub struct Item {
    /// `[n_images, C, h, w]`, float32.
    pub latents: Tensor,
    /// Of each image as it is encoded, by [`digest`].
    pub pictures: Vec<u64>,
    /// Of its texts.
    pub conditioning: Conditioning,
    pub tokens: Vec<Tokens>,
    pub texts: Vec<String>,
    /// `[n_images][n_texts]`
    pub matches: Vec<Vec<bool>>,
}

impl Item {
    pub fn labels(&self) -> Labels<'_> {
        Labels { pictures: &self.pictures, texts: &self.texts, matches: &self.matches }
    }

    fn bytes(&self) -> usize {
        [&self.latents]
            .into_iter()
            .chain(self.conditioning.tensors())
            .map(|x| x.numel() * x.kind().elt_size_in_bytes())
            .sum()
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

/// What an item says of its own images and texts.
#[derive(Clone, Copy)]
pub struct Labels<'a> {
    /// Of each image, a number that equal pictures share.
    pub pictures: &'a [u64],
    pub texts: &'a [String],
    /// `[n_images][n_texts]`
    pub matches: &'a [Vec<bool>],
}

/// Several items as one, by image and text. An image and a text of different items do not match, unless some item says
/// of the same picture and the same text that they do: then nothing is said about them here.
pub fn relations(items: &[Labels]) -> Vec<Vec<Relation>> {
    let mut known = HashSet::new();
    for item in items {
        for (picture, row) in item.pictures.iter().zip(item.matches) {
            let matching = item.texts.iter().zip(row).filter(|(_, matches)| **matches);
            known.extend(matching.map(|(text, _)| (picture, text)));
        }
    }
    let mut rows = vec![];
    for (a, item) in items.iter().enumerate() {
        for (picture, own) in item.pictures.iter().zip(item.matches) {
            let mut row = vec![];
            for (b, other) in items.iter().enumerate() {
                row.extend(other.texts.iter().enumerate().map(|(j, text)| match a == b {
                    true if own[j] => Relation::Match,
                    false if known.contains(&(picture, text)) => Relation::Aside,
                    _ => Relation::Mismatch,
                }));
            }
            rows.push(row);
        }
    }
    rows
}

/// A number that equal pictures share, and others by a chance of 2⁻⁶⁴.
pub fn digest(picture: &Rgb) -> u64 {
    let mut hasher = DefaultHasher::new();
    (picture.width, picture.height, &picture.data).hash(&mut hasher);
    hasher.finish()
}
