//! Encoded training items, and the pairs that a loss compares.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use tch::Tensor;

use super::loss::Comparison;
use crate::config::NegativeKinds;
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
    let mut known = HashSet::new();
    for item in items {
        for (image, row) in item.image_hashes.iter().zip(item.matches) {
            let matching = item.texts.iter().zip(row).filter(|(_, matches)| **matches);
            known.extend(matching.map(|(text, _)| (image, text)));
        }
    }
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

/// A hash of an image's size and pixels. Different images have equal hashes with probability 2⁻⁶⁴.
pub fn hash_of(image: &Rgb) -> u64 {
    let mut hasher = DefaultHasher::new();
    (image.width, image.height, &image.data).hash(&mut hasher);
    hasher.finish()
}
