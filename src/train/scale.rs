/// What gradients are multiplied by on their way back, so that half precision does not round small ones to zero.
///
/// It is halved where a gradient overflows and doubled again after a while without that, up to where it began: the rule
/// of PyTorch's `GradScaler`, with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    factor: f64,
    most: f64,
    /// Steps since it last changed.
    calm: u64,
}

/// Where half precision begins.
const LARGEST: f64 = 65_536.0;
/// Steps without overflow after which a larger one is tried.
const INTERVAL: u64 = 2_000;

impl LossScale {
    /// To begin with; nothing is scaled where numbers have the range of float32.
    pub fn new(half: bool) -> Self {
        let most = if half { LARGEST } else { 1.0 };
        LossScale { factor: most, most, calm: 0 }
    }

    /// The same after `calm` steps with `factor`.
    pub fn at(self, factor: f64, calm: u64) -> Self {
        LossScale { factor, calm, ..self }
    }

    pub fn factor(self) -> f64 {
        self.factor
    }

    /// Steps since it last changed.
    pub fn calm(self) -> u64 {
        self.calm
    }

    /// After a gradient that is not finite: halves it, or says false where it cannot be at fault.
    pub fn overflowed(&mut self) -> bool {
        let at_fault = self.factor > 1.0;
        if at_fault {
            *self = self.at(self.factor / 2.0, 0);
        }
        at_fault
    }

    /// After a step with a gradient that is finite.
    pub fn went_well(&mut self) {
        self.calm += 1;
        if self.calm >= INTERVAL && self.factor < self.most {
            *self = self.at((self.factor * 2.0).min(self.most), 0);
        }
    }
}
