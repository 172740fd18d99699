//! AdamW with a state that can be saved.

use tch::Tensor;

/// AdamW (Loshchilov & Hutter 2019) with the usual β = (0.9, 0.999) and ε = 1e-8.
///
/// tch's optimisers cannot save their state, and an interrupted run must be resumed with identical results.
pub struct AdamW {
    /// First and second moments of each parameter.
    pub moments: Vec<(Tensor, Tensor)>,
    /// Number of steps done.
    pub steps: u64,
    /// For each parameter, whether the loss depends on it at all.
    reached: Vec<bool>,
    weight_decay: f64,
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

impl AdamW {
    /// A new optimiser; `reached` says for each parameter whether the loss depends on it at all.
    pub fn new(parameters: &[Tensor], reached: Vec<bool>, weight_decay: f64) -> Self {
        let moments = parameters.iter().map(|p| (p.zeros_like(), p.zeros_like())).collect();
        AdamW { moments, steps: 0, reached, weight_decay }
    }

    /// One step with the gradients times `factor`. A parameter that the loss does not depend on is left unchanged. Any
    /// other parameter without a gradient has a gradient of zero: that of a loss of zero, and its weight decays.
    pub fn step(&mut self, parameters: &mut [Tensor], rate: f64, factor: f64) {
        self.steps += 1;
        let correction = |beta: f64, steps: u64| 1.0 - beta.powf(steps as f64);
        let (first, second) = (correction(BETA1, self.steps), correction(BETA2, self.steps));
        tch::no_grad(|| {
            let reached = self.reached.iter().zip(parameters.iter_mut().zip(&mut self.moments));
            for (_, (parameter, (mean, square))) in reached.filter(|(reached, _)| **reached) {
                let gradient = parameter.grad();
                let gradient = if gradient.defined() { gradient * factor } else { parameter.zeros_like() };
                let _ = parameter.g_mul_scalar_(1.0 - rate * self.weight_decay);
                let _ = mean.lerp_(&gradient, 1.0 - BETA1);
                let _ = square.g_mul_scalar_(BETA2).g_add_(&(gradient.square() * (1.0 - BETA2)));
                let divisor = square.sqrt() / second.sqrt() + EPS;
                let _ = parameter.g_sub_(&(&*mean / divisor * (rate / first)));
            }
        });
    }
}
