//! A check whether a network's predictions are of the type that its configuration names.

use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Kind, Tensor};

use super::Model;
use crate::device::to_vec64;
use crate::noise::{Prediction, Time};
use crate::runtime::warnings;

/// Below this `ᾱ`, `ε` and `v = √ᾱ ε − √(1−ᾱ) z` differ clearly: their correlation is `√ᾱ`.
const MOST_SIGNAL: f64 = 0.35;

/// A check that is made once per model.
#[derive(Default)]
pub struct PredictionCheck(AtomicBool);

impl PredictionCheck {
    /// Whether the check was made.
    pub fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Compares the first predictions that a model makes at high noise levels with both types of target, and warns if
    /// they resemble the other type.
    ///
    /// At high noise levels, a network that predicts `ε` is accurate for any image, since its input is nearly `ε`. A
    /// velocity is nearly `−z` there, of which the input says little.
    pub fn compare(&self, model: &Model, noised: &Tensor, target: &Tensor, prediction: &Tensor, times: &[Time]) {
        if self.is_done() {
            return;
        }
        let factors: Vec<(f64, f64)> = times.iter().map(|&t| model.process().factors(t)).collect();
        let fits = |row: &usize| (1e-6..MOST_SIGNAL).contains(&factors[*row].0.powi(2));
        let rows: Vec<usize> = (0..factors.len()).filter(fits).collect();
        if rows.is_empty() {
            return;
        }
        self.0.store(true, Ordering::Relaxed);
        let _no_grad = tch::no_grad_guard();
        let (mut of_noise, mut of_velocity) = (0.0, 0.0);
        for &row in &rows {
            let (signal, sigma) = factors[row];
            let [prediction, target, noised] =
                [prediction, target, noised].map(|x| x.get(row as i64).to_kind(Kind::Double));
            // z_t = √ᾱ z + √(1−ᾱ) ε determines each target from the other.
            let (noise, velocity) = match model.prediction() {
                Prediction::Velocity => (&target * signal + noised * sigma, target),
                Prediction::Epsilon => {
                    let clean = (noised - &target * sigma) / signal;
                    let velocity = &target * signal - clean * sigma;
                    (target, velocity)
                }
                // With a flow's scheduler there is no other type that the model could be loaded with.
                Prediction::Flow => return,
            };
            of_noise += correlation(&prediction, &noise) / rows.len() as f64;
            of_velocity += correlation(&prediction, &velocity) / rows.len() as f64;
        }
        let resembled = if of_noise > 0.9 && of_velocity < of_noise - 0.25 {
            Prediction::Epsilon
        } else if of_velocity > 0.5 && of_noise < of_velocity - 0.15 {
            Prediction::Velocity
        } else {
            return;
        };
        let configured = model.prediction();
        if resembled != configured {
            warnings::push(format!(
                "{}: prediction_type is {}, but what the model predicts of much noise looks like {} (correlation with \
                 the noise {of_noise:.2}, with the velocity {of_velocity:.2}); denoising scores and generated images \
                 are wrong unless it is loaded with prediction_type=\"{}\"",
                model.checkpoint().dir().display(),
                configured.name(),
                resembled.name(),
                resembled.name()
            ));
        }
    }
}

fn correlation(a: &Tensor, b: &Tensor) -> f64 {
    let [a, b] = [a, b].map(|x| x - x.mean(None));
    let product = (&a * &b).sum(None) / (a.square().sum(None) * b.square().sum(None)).sqrt();
    to_vec64(&product)[0]
}
