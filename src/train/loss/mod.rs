//! Eq. 6 and the losses of appendix F.4, on numbers: each gives its value and its gradient with respect to every score,
//! in closed form. The network's own gradient is libtorch's business.

mod binary_cross_entropy;
mod cross_entropy;
mod diffusion;
mod triplet;

pub use binary_cross_entropy::binary_cross_entropy;
pub use cross_entropy::cross_entropy;
pub use diffusion::diffusion;
pub use triplet::triplet;

/// One matching pair and what it is compared with; indices into a list of scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub positive: usize,
    /// The same text with images that do not match it.
    pub other_images: Vec<usize>,
    /// The same image with texts that do not match it.
    pub other_texts: Vec<usize>,
}

impl Question {
    /// Negatives of both kinds.
    pub fn negatives(&self) -> impl Iterator<Item = usize> + '_ {
        self.other_images.iter().chain(&self.other_texts).copied()
    }
}

/// A loss and how it changes with each score.
#[derive(Debug, Clone, PartialEq)]
pub struct LossValue {
    pub value: f64,
    /// `∂ value / ∂ score`, as long as the scores.
    pub gradient: Vec<f64>,
    /// Share of the matching pairs whose loss is not zero.
    pub active: f64,
}
