//! Eq. 6 and the losses of appendix F.4. Each is a function of scores that returns its value and, in closed form, its
//! gradient with respect to every score. The gradient of the scores comes from libtorch's autograd.

mod binary_cross_entropy;
mod cross_entropy;
mod diffusion;
mod triplet;

pub use binary_cross_entropy::binary_cross_entropy;
pub use cross_entropy::cross_entropy;
pub use diffusion::diffusion;
pub use triplet::triplet;

/// One matching pair (the positive) and its mismatches (the negatives), as indices into a list of scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The matching pair.
    pub positive: usize,
    /// Negatives: the same text with images that do not match it.
    pub other_images: Vec<usize>,
    /// Negatives: the same image with texts that do not match it.
    pub other_texts: Vec<usize>,
}

impl Comparison {
    /// Negatives of both kinds.
    pub fn negatives(&self) -> impl Iterator<Item = usize> + '_ {
        self.other_images.iter().chain(&self.other_texts).copied()
    }
}

/// A loss and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct LossValue {
    /// The loss.
    pub value: f64,
    /// `∂ value / ∂ score` of every score.
    pub gradient: Vec<f64>,
    /// The fraction of the matching pairs whose loss is not zero.
    pub active: f64,
}
