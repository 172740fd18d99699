use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::json;

use super::arrays::Floats;
use super::config::{ScoreConfig, train_config};
use super::deltas::Deltas;
use super::enter::enter;
use super::images::Image;
use super::scorer::{Scorer, strs};
use crate::config;
use crate::encode::tokenizer::Truncate;
use crate::model::Model;
use crate::noise::Time;
use crate::runtime::{Lock, caught};
use crate::train::{Gradient, Session, Share, View, order};
use crate::{Error, Result};

/// A gradient, `[parameters]`, and what is added up beside it.
type GradientPair<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>);

/// Training under way. What it has come to can be asked for at any time; of what takes it further, one at a time.
///
/// No lock is held while it is at work: a signal's handler may run then, and ask it whatever it likes.
#[pyclass(frozen, module = "discffusion._core")]
pub struct Trainer {
    /// In the hands of the call that is at work, if one is.
    session: Lock<Option<Session>>,
    view: View,
    model: Model,
    /// What is scored in training.
    config: config::ScoreConfig,
    seed: u64,
    info: String,
}

impl Trainer {
    fn work<T>(&self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut session = self.session.hold().take().ok_or_else(|| {
            Error::Training(
                "this training is in the middle of a step; another can begin when that is done. Its deltas and state can \
                 be read and saved meanwhile"
                    .into(),
            )
        })?;
        // A panic inside is an error of that call; a step changes the session only at its end.
        let done = caught(|| work(&mut session));
        self.session.hold().replace(session);
        done
    }
}

#[pymethods]
impl Trainer {
    /// Prepares training of the scorer's model, from the scorer's deltas if it has some.
    #[staticmethod]
    fn new(py: Python<'_>, scorer: &Scorer, options: &Bound<'_, PyAny>, config: &ScoreConfig) -> PyResult<Self> {
        let (model, options) = (scorer.model().clone(), train_config(options)?);
        enter(py, |_| {
            let (options_said, config_said) = (options.to_fields(), config.get().to_fields());
            let session = Session::new(model.clone(), config.get().clone(), options)?;
            let info = json!({
                "layers": session.layers(),
                "parameters": session.parameters(),
                "options": options_said,
                "config": config_said,
            });
            Ok(Trainer {
                view: session.view(),
                model,
                config: session.config().clone(),
                seed: session.options().seed,
                info: info.to_string(),
                session: Lock::new(Some(session)),
            })
        })
    }

    /// What is trained and how, as a JSON object.
    fn info(&self) -> &str {
        &self.info
    }

    /// Refuses texts that the score cannot take; gives the number of those that are cut where that draws a warning.
    fn check_texts(&self, py: Python<'_>, texts: Vec<String>) -> PyResult<usize> {
        enter(py, |_| {
            let cut = self.model.check_texts(&strs(&texts), &self.config)?;
            Ok(if self.config.truncate == Truncate::Warn { cut } else { 0 })
        })
    }

    /// Number of steps done.
    #[getter]
    fn steps(&self, py: Python<'_>) -> PyResult<u64> {
        enter(py, |_| Ok(self.view.steps()))
    }

    /// What steps draw timesteps from: "config", "range" or "uniform".
    #[getter]
    fn timesteps(&self, py: Python<'_>) -> PyResult<&'static str> {
        enter(py, |_| Ok(self.view.times().name()))
    }

    /// The indices of items that are not encoded; none of the list is dropped before the next call.
    fn ensure(&self, py: Python<'_>, indices: Vec<usize>) -> PyResult<Vec<usize>> {
        enter(py, |_| self.work(|session| Ok(session.ensure(&indices))))
    }

    /// Encodes an item and keeps it under that index.
    fn add(
        &self,
        py: Python<'_>,
        index: usize,
        images: Vec<Image>,
        texts: Vec<String>,
        matches: PyReadonlyArray2<'_, bool>,
    ) -> PyResult<()> {
        let matches: Vec<Vec<bool>> = matches.as_array().rows().into_iter().map(|row| row.to_vec()).collect();
        enter(py, |_| self.work(|session| session.add(index, &images, &strs(&texts), matches)))
    }

    /// The order of `count` items in an epoch.
    fn order(&self, py: Python<'_>, epoch: u64, count: usize) -> PyResult<Vec<usize>> {
        enter(py, |_| Ok(order(self.seed, epoch, count)))
    }

    /// What scores are divided by; found from these items if it is open still.
    fn calibrate(&self, py: Python<'_>, indices: Vec<usize>) -> PyResult<f64> {
        enter(py, |_| self.work(|session| Ok(session.calibrate(&indices)?.value)))
    }

    /// One step of the optimiser on these items; its report as a JSON object.
    fn step(&self, py: Python<'_>, indices: Vec<usize>, total_steps: u64) -> PyResult<String> {
        enter(py, |_| {
            let report = self.work(|session| session.step(&indices, total_steps))?;
            serde_json::to_string(&report).map_err(|why| Error::Internal(why.into()))
        })
    }

    /// The first half of a step that workers share: the gradient of these items, which stand from `first` on in a
    /// batch of `of`, float64 `[parameters]`; and float64 numbers to be added up beside.
    fn share<'py>(&self, py: Python<'py>, indices: Vec<usize>, first: usize, of: usize) -> PyResult<GradientPair<'py>> {
        let found = enter(py, |_| self.work(|session| session.share(&indices, Share { first, of })))?;
        Ok((found.values.into_pyarray(py), found.statistics.into_pyarray(py)))
    }

    /// The second half, with the sums over all workers; a report as of `step`, or None if the first half is to be done
    /// again.
    fn apply(
        &self,
        py: Python<'_>,
        gradient: PyReadonlyArray1<'_, f64>,
        statistics: PyReadonlyArray1<'_, f64>,
        total_steps: u64,
    ) -> PyResult<Option<String>> {
        let gradient = Gradient { values: gradient.as_array().to_vec(), statistics: statistics.as_array().to_vec() };
        enter(py, |_| {
            let report = self.work(|session| session.apply(&gradient, total_steps))?;
            report.map(|report| serde_json::to_string(&report).map_err(|why| Error::Internal(why.into()))).transpose()
        })
    }

    /// What the next step would do on these items, without doing it.
    fn gradients<'py>(&self, py: Python<'py>, indices: Vec<usize>) -> PyResult<Bound<'py, PyDict>> {
        let (found, gradients, noise) = enter(py, |_| {
            let found = self.work(|session| session.gradients(&indices))?;
            let gradients: Vec<(String, Floats)> =
                found.gradients.iter().map(|(name, gradient)| (name.clone(), Floats::new(gradient))).collect();
            let noise = Floats::new(&tch::Tensor::stack(&found.noise, 0));
            Ok((found, gradients, noise))
        })?;
        let dict = PyDict::new(py);
        dict.set_item("loss", found.loss)?;
        let named = PyDict::new(py);
        for (name, gradient) in gradients {
            named.set_item(name, gradient.into_py(py))?;
        }
        dict.set_item("gradients", named)?;
        let whole = |times: &Vec<Time>| times.iter().map(|time| time.whole()).collect::<Option<Vec<i64>>>();
        let times = match found.times.iter().map(whole).collect::<Option<Vec<_>>>() {
            Some(whole) => PyArray2::from_vec2(py, &whole)?.into_any(),
            None => {
                let times: Vec<Vec<f64>> =
                    found.times.iter().map(|of| of.iter().map(|time| time.0).collect()).collect();
                PyArray2::from_vec2(py, &times)?.into_any()
            }
        };
        dict.set_item("timesteps", times)?;
        dict.set_item("noise", noise.into_py(py))?;
        dict.set_item("scores", found.scores.clone())?;
        Ok(dict)
    }

    /// A copy of the deltas as they are now.
    fn deltas(&self, py: Python<'_>) -> PyResult<Deltas> {
        enter(py, |_| Ok(Deltas::new(self.view.deltas())))
    }

    /// Replaces the deltas by others of the same layers and shapes.
    fn set_deltas(&self, py: Python<'_>, deltas: &Deltas) -> PyResult<()> {
        enter(py, |_| self.work(|session| session.set_deltas(deltas.get())))
    }

    /// Writes everything that the next step depends on, atomically.
    fn save(&self, py: Python<'_>, path: PathBuf, extra: &str) -> PyResult<()> {
        enter(py, |_| self.view.save(&path, extra))
    }

    /// Goes back to what was written; gives back its `extra`.
    fn load(&self, py: Python<'_>, path: PathBuf) -> PyResult<String> {
        enter(py, |_| self.work(|session| session.load(&path)))
    }
}
