//! Loss scaling for half precision.

/// The factor of the loss, so that half precision does not round small gradients to zero.
///
/// It is halved when a gradient overflows, and doubled again after 2,000 steps without overflow, up to its initial
/// value: the rule of PyTorch's `GradScaler`, with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    factor: f64,
    most: f64,
    /// Number of steps since the factor last changed.
    calm: u64,
}

/// The initial factor in half precision.
const LARGEST: f64 = 65_536.0;
/// Number of steps without overflow after which the factor is doubled.
const INTERVAL: u64 = 2_000;

impl LossScale {
    /// The initial scale: 65,536 in float16 (`half`), and 1 for types with the range of float32.
    pub fn new(half: bool) -> Self {
        let most = if half { LARGEST } else { 1.0 };
        LossScale { factor: most, most, calm: 0 }
    }

    /// A saved scale: `factor`, unchanged for `calm` steps.
    pub fn at(self, factor: f64, calm: u64) -> Self {
        LossScale { factor, calm, ..self }
    }

    /// The factor of the loss, and of its gradients.
    pub fn factor(self) -> f64 {
        self.factor
    }

    /// Number of steps since the factor last changed.
    pub fn calm(self) -> u64 {
        self.calm
    }

    /// Records a gradient that is not finite: halves the factor, or returns false if it is 1, so that scaling cannot be
    /// the cause.
    pub fn overflowed(&mut self) -> bool {
        let may_be_the_cause = self.factor > 1.0;
        if may_be_the_cause {
            *self = self.at(self.factor / 2.0, 0);
        }
        may_be_the_cause
    }

    /// Records a step whose gradient was finite.
    pub fn went_well(&mut self) {
        self.calm += 1;
        if self.calm >= INTERVAL && self.factor < self.most {
            *self = self.at((self.factor * 2.0).min(self.most), 0);
        }
    }
}
