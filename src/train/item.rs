//! Encoded training items, and the pairs that a loss compares.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use tch::Tensor;

use super::loss::Comparison;
use crate::config::{Loss, NegativeKinds};
use crate::encode::Conditioning;
use crate::encode::image::Rgb;
use crate::encode::text::Tokens;

/// One item, encoded.
pub struct Item {
    /// `[n_images, C, h, w]`, float32.
    pub latents: Tensor,
    /// [`hash_of`] each preprocessed image.
    pub image_hashes: Vec<u64>,
    /// The encoded texts.
    pub conditioning: Conditioning,
    /// The tokens of each text.
    pub tokens: Vec<Tokens>,
    /// The texts.
    pub texts: Vec<String>,
    /// `[n_images][n_texts]`
    pub matches: Vec<Vec<bool>>,
}

impl Item {
    /// The item's labels, without its encodings.
    pub fn labels(&self) -> Labels<'_> {
        Labels { image_hashes: &self.image_hashes, texts: &self.texts, matches: &self.matches }
    }

    /// Bytes of its encodings.
    pub fn bytes(&self) -> usize {
        [&self.latents]
            .into_iter()
            .chain(self.conditioning.tensors())
            .map(|x| x.numel() * x.kind().elt_size_in_bytes())
            .sum()
    }
}

/// How an image and a text are labelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The text describes the image: a positive pair.
    Match,
    /// The text does not describe the image: a negative pair.
    Mismatch,
    /// Unknown; the pair is neither compared nor scored.
    Unknown,
}

/// The pairs whose scores a loss needs, and the comparisons between them.
pub struct ComparedPairs {
    /// `(image, text)` indices, each pair once.
    pub pairs: Vec<(usize, usize)>,
    /// The comparisons; they index `pairs`.
    pub comparisons: Vec<Comparison>,
}

impl ComparedPairs {
    /// Every matching pair and its mismatches of the given kinds; a matching pair without any is left out. `relations`
    /// is `[images][texts]`.
    pub fn new(relations: &[Vec<Relation>], kinds: NegativeKinds) -> Self {
        let mut compared = ComparedPairs { pairs: vec![], comparisons: vec![] };
        let mut index_of = HashMap::new();
        let (images, texts) = (relations.len(), relations[0].len());
        for i in 0..images {
            for j in (0..texts).filter(|&j| relations[i][j] == Relation::Match) {
                let other_images = (0..images).filter(|&other| relations[other][j] == Relation::Mismatch);
                let other_texts = (0..texts).filter(|&other| relations[i][other] == Relation::Mismatch);
                let mut find = |pair| {
                    *index_of.entry(pair).or_insert_with(|| {
                        compared.pairs.push(pair);
                        compared.pairs.len() - 1
                    })
                };
                let other_images: Vec<_> =
                    other_images.filter(|_| kinds != NegativeKinds::Text).map(|other| (other, j)).collect();
                let other_texts: Vec<_> =
                    other_texts.filter(|_| kinds != NegativeKinds::Image).map(|other| (i, other)).collect();
                if other_images.is_empty() && other_texts.is_empty() {
                    continue;
                }
                let comparison = Comparison {
                    positive: find((i, j)),
                    other_images: other_images.into_iter().map(&mut find).collect(),
                    other_texts: other_texts.into_iter().map(&mut find).collect(),
                };
                compared.comparisons.push(comparison);
            }
        }
        compared
    }

    /// The texts whose prior the loss depends on: those that are compared with other texts. Where the images of a text
    /// are compared, its prior cancels. The binary loss takes each score by itself.
    pub fn texts_with_prior(&self, loss: Loss) -> Vec<usize> {
        let text_of = |pair: usize| self.pairs[pair].1;
        let texts: BTreeSet<usize> = match loss {
            Loss::Diffusion => BTreeSet::new(),
            Loss::BinaryCrossEntropy => (0..self.pairs.len()).map(text_of).collect(),
            Loss::Triplet | Loss::CrossEntropy => {
                let compared = self.comparisons.iter().filter(|comparison| !comparison.other_texts.is_empty());
                compared.flat_map(|one| one.other_texts.iter().chain([&one.positive]).map(|&i| text_of(i))).collect()
            }
        };
        texts.into_iter().collect()
    }

    /// Only the matching pairs, for a loss without comparisons.
    pub fn matches(relations: &[Vec<Relation>]) -> Self {
        let pairs = relations.iter().enumerate().flat_map(|(i, row)| {
            row.iter().enumerate().filter(|(_, relation)| **relation == Relation::Match).map(move |(j, _)| (i, j))
        });
        ComparedPairs { pairs: pairs.collect(), comparisons: vec![] }
    }
}

/// The labels of an item's images and texts.
#[derive(Clone, Copy)]
pub struct Labels<'a> {
    /// A hash of each image; equal images have equal hashes.
    pub image_hashes: &'a [u64],
    /// The texts.
    pub texts: &'a [String],
    /// Whether each image and text match, `[n_images][n_texts]`.
    pub matches: &'a [Vec<bool>],
}

/// The relations of all images and texts of several items, `[images][texts]`. An image and a text of different items
/// are a mismatch, unless some item labels an equal image and an equal text as a match: then their relation is unknown.
pub fn relations(items: &[Labels]) -> Vec<Vec<Relation>> {
    let known = known_matches(items);
    let mut rows = vec![];
    for (a, item) in items.iter().enumerate() {
        for (image, own) in item.image_hashes.iter().zip(item.matches) {
            let mut row = vec![];
            for (b, other) in items.iter().enumerate() {
                row.extend(other.texts.iter().enumerate().map(|(j, text)| match a == b {
                    true if own[j] => Relation::Match,
                    false if known.contains(&(image, text)) => Relation::Unknown,
                    _ => Relation::Mismatch,
                }));
            }
            rows.push(row);
        }
    }
    rows
}

/// Texts of other items that describe none of an item's images, as far as is known, each string once: `(item, text)`
/// indices. Left out are the item's own texts, and those that some item labels as a match of an equal image. Another
/// true description in other words cannot be told from a wrong one.
pub fn texts_of_others(items: &[Labels], own: usize) -> Vec<(usize, usize)> {
    let known = known_matches(items);
    let item = &items[own];
    let mut seen: HashSet<&String> = item.texts.iter().collect();
    let mut found = vec![];
    for (index, other) in items.iter().enumerate().filter(|&(index, _)| index != own) {
        for (place, text) in other.texts.iter().enumerate() {
            let matches = item.image_hashes.iter().any(|image| known.contains(&(image, text)));
            if !matches && seen.insert(text) {
                found.push((index, place));
            }
        }
    }
    found
}

/// The hashes of images and the texts that some item labels as a match.
fn known_matches<'a>(items: &[Labels<'a>]) -> HashSet<(&'a u64, &'a String)> {
    let mut known = HashSet::new();
    for item in items {
        for (image, row) in item.image_hashes.iter().zip(item.matches) {
            let matching = item.texts.iter().zip(row).filter(|(_, matches)| **matches);
            known.extend(matching.map(|(text, _)| (image, text)));
        }
    }
    known
}

/// A hash of an image's size and pixels. Different images have equal hashes with probability 2⁻⁶⁴.
pub fn hash_of(image: &Rgb) -> u64 {
    let mut hasher = DefaultHasher::new();
    (image.width, image.height, &image.data).hash(&mut hasher);
    hasher.finish()
}
