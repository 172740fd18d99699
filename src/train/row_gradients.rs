//! The loss of a pass, and its gradient with respect to the numbers of every row.

use std::collections::{BTreeMap, HashMap};

use super::group::ItemGroup;
use super::loss::{LossValue, binary_cross_entropy, cross_entropy, diffusion, triplet};
use super::pass::{RowValues, TrainingPass};
use super::prior::TextPrior;
use super::totals::Totals;
use crate::config::Loss;
use crate::score::Evaluation;
use crate::{Error, Result};

/// The numbers of all rows of a pass, by evaluation.
struct Rows<'a> {
    values: &'a [RowValues],
    row_of: HashMap<Evaluation, usize>,
}

impl Rows<'_> {
    fn of(&self, evaluation: Evaluation) -> RowValues {
        self.values[self.row_of[&evaluation]]
    }
}

impl TrainingPass<'_> {
    /// Adds the loss to `totals`, and returns its gradient with respect to the numbers of every row.
    ///
    /// # Errors
    /// `Training` if a score or the loss is not finite.
    pub fn row_gradients(
        &self,
        evaluations: &[Evaluation],
        values: &[RowValues],
        totals: &mut Totals,
    ) -> Result<Vec<RowValues>> {
        let rows = Rows { values, row_of: evaluations.iter().enumerate().map(|(i, &one)| (one, i)).collect() };
        let mut gradients = vec![RowValues::default(); values.len()];
        for group in self.groups {
            match self.options.loss {
                Loss::Diffusion => self.add_diffusion(group, &rows, totals, &mut gradients)?,
                _ => self.add_compared(group, &rows, totals, &mut gradients)?,
            }
        }
        Ok(gradients)
    }

    /// Adds the diffusion loss of a group and its gradient.
    fn add_diffusion(
        &self,
        group: &ItemGroup,
        rows: &Rows,
        totals: &mut Totals,
        gradients: &mut [RowValues],
    ) -> Result<()> {
        let of_pair = |&pair: &(usize, usize)| group.steps.clone().map(move |step| group.evaluation(pair, step));
        let index: Vec<usize> =
            group.compared.pairs.iter().flat_map(of_pair).map(|evaluation| rows.row_of[&evaluation]).collect();
        let loss = diffusion(&index.iter().map(|&i| rows.values[i].squared).collect::<Vec<_>>());
        for (&i, gradient) in index.iter().zip(&loss.gradient) {
            gradients[i].squared += gradient * self.scale;
        }
        self.add(totals, loss, group, &[])
    }

    /// Adds the loss of a group that compares scores, and its gradient.
    fn add_compared(
        &self,
        group: &ItemGroup,
        rows: &Rows,
        totals: &mut Totals,
        gradients: &mut [RowValues],
    ) -> Result<()> {
        let scores = self.scores(group, rows);
        self.check(&scores, group, totals)?;
        for comparison in &group.compared.comparisons {
            let difference = |negative: usize| (scores[comparison.positive] - scores[negative]).abs();
            totals.differences.extend(comparison.negatives().map(difference));
        }
        let loss = self.loss(&scores, group);
        for step in group.steps.clone() {
            let divisor = self.temperature * group.steps.len() as f64 * self.factors[step];
            let mut of_texts = BTreeMap::new();
            for (&gradient, &pair) in loss.gradient.iter().zip(&group.compared.pairs) {
                let gradient = gradient * self.scale / divisor;
                self.add_gradient(group.evaluation(pair, step), gradient, rows, gradients);
                *of_texts.entry(pair.1).or_insert(0.0) += gradient;
            }
            for (text, prior) in self.priors(group, step, rows) {
                let gradient = -self.context.config.prior_weight * of_texts[&text];
                for (evaluation, share) in self.with_nulls(group, text, step).zip(prior.gradient) {
                    self.add_gradient(evaluation, gradient * share, rows, gradients);
                }
            }
        }
        self.add(totals, loss, group, &scores)
    }

    /// The scores of a group's pairs, means over its times. A prior that cancels in the loss is not subtracted.
    fn scores(&self, group: &ItemGroup, rows: &Rows) -> Vec<f64> {
        let mut scores = vec![0.0; group.compared.pairs.len()];
        for step in group.steps.clone() {
            let priors = self.priors(group, step, rows);
            let divisor = group.steps.len() as f64 * self.factors[step];
            for (score, &pair) in scores.iter_mut().zip(&group.compared.pairs) {
                let prior = priors.get(&pair.1).map_or(0.0, |prior| self.context.config.prior_weight * prior.value);
                *score += (self.score(group.evaluation(pair, step), rows) - prior) / divisor;
            }
        }
        scores
    }

    /// The priors of a group's texts at one time.
    fn priors(&self, group: &ItemGroup, step: usize, rows: &Rows) -> BTreeMap<usize, TextPrior> {
        let of_text = |&text: &usize| {
            let scores: Vec<f64> = self.with_nulls(group, text, step).map(|null| self.score(null, rows)).collect();
            (text, TextPrior::new(&scores, self.context.config.method))
        };
        group.prior_texts.iter().map(of_text).collect()
    }

    /// The score of one evaluation with a text.
    fn score(&self, evaluation: Evaluation, rows: &Rows) -> f64 {
        let row = rows.of(evaluation);
        let empty = if self.compares_to_none() { rows.of(self.without_text(evaluation)).error } else { 0.0 };
        self.context.coefficients_at(evaluation.step).score(row.attention, row.error, empty)
    }

    /// Adds `gradient` times the gradient of [`Self::score`].
    fn add_gradient(&self, evaluation: Evaluation, gradient: f64, rows: &Rows, gradients: &mut [RowValues]) {
        let coefficients = self.context.coefficients_at(evaluation.step);
        let row = rows.row_of[&evaluation];
        gradients[row].attention += coefficients.attention * gradient;
        gradients[row].error += coefficients.error * gradient;
        if self.compares_to_none() {
            let without = rows.row_of[&self.without_text(evaluation)];
            gradients[without].error += coefficients.empty * gradient;
        }
    }

    /// The loss of a group's scores.
    fn loss(&self, scores: &[f64], group: &ItemGroup) -> LossValue {
        let scores: Vec<f64> = scores.iter().map(|score| score / self.temperature).collect();
        let comparisons = &group.compared.comparisons;
        match self.options.loss {
            Loss::Triplet => triplet(&scores, comparisons, self.options.margin, self.options.negatives),
            Loss::CrossEntropy => cross_entropy(&scores, comparisons),
            Loss::BinaryCrossEntropy => binary_cross_entropy(&scores, comparisons),
            Loss::Diffusion => unreachable!("compares no scores"),
        }
    }

    /// Adds a group's loss to `totals`.
    fn add(&self, totals: &mut Totals, loss: LossValue, group: &ItemGroup, scores: &[f64]) -> Result<()> {
        totals.loss += loss.value;
        totals.active += loss.active;
        totals.scores.push(group.compared.pairs.iter().copied().zip(scores.iter().copied()).collect());
        if totals.loss.is_finite() { Ok(()) } else { Err(self.not_finite("loss", loss.value, totals.scores.len() - 1)) }
    }

    /// Refuses scores that are not finite: a mismatch with a score of minus infinity would have a loss of zero.
    fn check(&self, scores: &[f64], group: &ItemGroup, totals: &Totals) -> Result<()> {
        match scores.iter().zip(&group.compared.pairs).find(|(score, _)| !score.is_finite()) {
            Some((&score, &(image, text))) => {
                let what = format!("score of image {image} and text {text}");
                Err(self.not_finite(&what, score, totals.scores.len()))
            }
            None => Ok(()),
        }
    }

    /// The error for a number that is not finite; `place` is the position of its group.
    fn not_finite(&self, what: &str, value: f64, place: usize) -> Error {
        let item = self.first + place;
        let times = self.groups.get(place).and_then(|group| self.context.encoded.times.get(group.steps.clone()));
        Error::Training(format!(
            "the {what} is {value} for item {item} of the batch (timesteps {:?}); nothing was changed. Try a smaller \
             learning_rate, gradient_clip, or dtype=\"float32\"",
            times.unwrap_or_default()
        ))
    }
}
