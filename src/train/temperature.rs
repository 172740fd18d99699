//! What scores are divided by before the loss: a temperature, and by the schedule `noise` a factor of the noise.

use super::Session;
use super::batch::BatchRun;
use super::pass::GradientMode;
use crate::Result;
use crate::config::TemperatureSchedule;
use crate::noise::Time;

/// The mean difference between a match and a mismatch at the start of training, in scores divided by the temperature,
/// that an automatic temperature aims at. It is the paper's margin.
const TYPICAL: f64 = 0.2;

/// The most times at which differences are measured for the schedule `noise`; between them it is a line.
const MEASURED: usize = 8;

/// The least factor: where scores hardly differ, dividing by their difference would enlarge noise alone.
const LEAST: f64 = 0.1;

/// The divisor of scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Temperature {
    /// The divisor at every time, but for its factor.
    pub value: f64,
    /// `(time, factor)`, the earliest first; empty if there is none.
    factors: Vec<(f64, f64)>,
}

impl Temperature {
    /// The divisor of these parts.
    pub fn new(value: f64, factors: Vec<(f64, f64)>) -> Self {
        Temperature { value, factors }
    }

    /// The same at every time.
    pub fn constant(value: f64) -> Self {
        Temperature::new(value, vec![])
    }

    /// `(time, factor)`, the earliest first; empty if there is none.
    pub fn factors(&self) -> &[(f64, f64)] {
        &self.factors
    }

    /// The divisor for the mean differences of scores at some times, the earliest first. Its value makes a difference
    /// typical, unless `value` is given.
    pub fn of_differences(means: &[(f64, f64)], value: Option<f64>) -> Self {
        let mean = means.iter().map(|(_, mean)| mean).sum::<f64>() / means.len().max(1) as f64;
        if mean > 0.0 {
            let factors = means.iter().map(|&(time, of_time)| (time, (of_time / mean).max(LEAST))).collect();
            return Temperature::new(value.unwrap_or(mean / TYPICAL), factors);
        }
        // If no scores differ, any temperature is as good as another.
        Temperature::constant(value.unwrap_or(1.0))
    }

    /// The factor of a time, on a line between the nearest ones that were measured.
    pub fn factor(&self, time: Time) -> f64 {
        let after = self.factors.partition_point(|&(measured, _)| measured < time.0);
        match (after.checked_sub(1).map(|before| self.factors[before]), self.factors.get(after).copied()) {
            (Some((low, at_low)), Some((high, at_high))) => at_low + (at_high - at_low) * (time.0 - low) / (high - low),
            (Some((_, factor)), None) | (None, Some((_, factor))) => factor,
            (None, None) => 1.0,
        }
    }
}

impl Session {
    /// The temperature, by which scores are divided. If the options leave it open, the first call computes it from
    /// these items, so that the mean absolute difference between matches and mismatches becomes 0.2. Scores of
    /// different maps and poolings differ by thousandths or by tens, so a margin needs a common scale. With the
    /// schedule `noise` it computes the differences at several times, whether a temperature is given or not.
    ///
    /// # Errors
    /// `Training` if a score is not finite; `OutOfMemory`; `Interrupted`.
    pub fn calibrate(&mut self, indices: &[usize]) -> Result<Temperature> {
        let known = self.state.hold().temperature.clone();
        if let Some(temperature) = known {
            return Ok(temperature);
        }
        let temperature = match self.options.temperature_schedule {
            TemperatureSchedule::Constant => {
                let mean = self.mean_difference(indices, None)?;
                Temperature::constant(Temperature::of_differences(&[(0.0, mean)], None).value)
            }
            TemperatureSchedule::Noise => {
                let mut means = vec![];
                for (choice, time) in self.measured()? {
                    means.push((time.0, self.mean_difference(indices, Some(choice))?));
                }
                Temperature::of_differences(&means, self.options.temperature)
            }
        };
        self.state.hold().temperature = Some(temperature.clone());
        Ok(temperature)
    }

    /// The mean of `|f(match) − f(mismatch)|` at the times that the next step draws, or at one that steps draw from.
    fn mean_difference(&mut self, indices: &[usize], choice: Option<usize>) -> Result<f64> {
        let run = BatchRun { graph: Some(GradientMode::None), choice, ..BatchRun::whole(indices) };
        let differences = self.pass(indices, &run, &Temperature::constant(1.0))?.differences;
        Ok(differences.iter().sum::<f64>() / differences.len() as f64)
    }

    /// Some times that steps draw from, with their indices among them, the earliest first, from one end to the other.
    fn measured(&self) -> Result<Vec<(usize, Time)>> {
        let mut choices: Vec<(usize, Time)> = self.choices()?.into_iter().enumerate().collect();
        choices.sort_by(|(_, a), (_, b)| a.0.total_cmp(&b.0));
        choices.dedup_by_key(|(_, time)| *time);
        let (count, last) = (choices.len().min(MEASURED), choices.len() - 1);
        Ok((0..count).map(|i| choices[i * last / (count - 1).max(1)]).collect())
    }
}
