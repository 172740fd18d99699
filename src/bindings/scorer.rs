use std::collections::BTreeMap;
use std::path::PathBuf;

use numpy::{PyArray1, PyArray2, PyArrayDyn, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value, json};

use super::arrays::{Floats, to_tensor};
use super::calibration::calibration;
use super::config::ScoreConfig;
use super::deltas::Deltas;
use super::enter::{enter, warn_truncated};
use super::head_scores::{Numbers, OfHeads};
use super::images::Image;
use super::pairs::{Prepared, indices, tell};
use super::tools::{times_list, tokens_dict, truncation};
use crate::checkpoint::Checkpoint;
use crate::config::{Layers, MapKind};
use crate::device::{device_name, dtype_name, parse_device, parse_dtype};
use crate::families::Options;
use crate::noise::Prediction;
use crate::runtime::warnings::Truncation;
use crate::score::{Model, ObserveRequest, Request};
use crate::{Error, Result};

/// A loaded model. Arrays go in and out; every call may run beside others on other threads.
#[pyclass(frozen, module = "discffusion._core")]
pub struct Scorer(Model);

impl Scorer {
    pub fn model(&self) -> &Model {
        &self.0
    }
}

#[pymethods]
impl Scorer {
    /// Loads the model in the folder `path`.
    #[staticmethod]
    #[pyo3(signature = (path, variant, device, dtype, lazy = true, prediction_type = None))]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        variant: Option<String>,
        device: &str,
        dtype: &str,
        lazy: bool,
        prediction_type: Option<&str>,
    ) -> PyResult<Self> {
        enter(py, |_| {
            let device = parse_device(device)?;
            let prediction = prediction_type.map(prediction).transpose()?;
            let options = Options { device, kind: parse_dtype(dtype, device)?, prediction };
            Model::new(Checkpoint::open(&path, variant.as_deref())?.lazy(lazy), options)
        })
        .map(Scorer)
    }

    /// What the model is, as a JSON object.
    fn info(&self) -> String {
        let (model, facts) = (&self.0, self.0.family());
        let parameters = model.parameters();
        let mut by_part: Map<String, Value> =
            parameters.iter().map(|&(part, count)| (part.to_owned(), count.into())).collect();
        by_part.insert("total".to_owned(), parameters.iter().map(|(_, count)| count).sum::<usize>().into());
        let layers = model.layers().iter().map(
            |layer| json!({"name": layer.name, "group": layer.group, "heads": layer.heads, "channels": layer.channels}),
        );
        let mut info = json!({
            "path": model.checkpoint().dir(),
            "family": facts.name,
            "device": device_name(model.device()),
            "dtype": dtype_name(model.kind()),
            "num_parameters": by_part,
            "prediction_type": model.prediction().name(),
            "num_train_timesteps": model.process().train_timesteps(),
            "latent_channels": model.vae().latent_channels,
            "sample_size": model.sample_size(),
            "vae_scale_factor": model.vae().scale_factor(),
            "resolution": model.resolution(),
            "max_tokens": model.max_tokens(),
            "layers": layers.collect::<Vec<_>>(),
        });
        let lacks = |part: &&&str| model.checkpoint().class_of(part).is_none();
        let absent: Vec<&&str> = facts.optional_parts.iter().filter(lacks).collect();
        if !absent.is_empty() {
            info["absent_parts"] = json!(absent);
        }
        info.to_string()
    }

    /// By folder of the model, a checksum of what is in it, as a JSON object. The first time for a file, all of it is read.
    fn identity(&self, py: Python<'_>) -> PyResult<String> {
        enter(py, |_| Ok(json!(self.0.checkpoint().identity()?).to_string()))
    }

    /// A scorer of the same weights with these deltas, or none.
    #[pyo3(signature = (deltas, merge))]
    fn with_deltas(&self, py: Python<'_>, deltas: Option<&Deltas>, merge: Option<bool>) -> PyResult<Self> {
        enter(py, |_| {
            let deltas = deltas.map(|deltas| deltas.get().to_device(self.0.device()));
            self.0.with_deltas(deltas, merge).map(Scorer)
        })
    }

    /// A scorer of the same weights and deltas that scores by `method="calibrated"` with these weights: `[steps, H]` by
    /// layer, and `[steps]` of the denoising term. `config` is the configuration that they belong to.
    #[pyo3(signature = (config, layers, denoising))]
    fn with_calibration(
        &self,
        py: Python<'_>,
        config: &ScoreConfig,
        layers: BTreeMap<String, PyReadonlyArray2<'_, f64>>,
        denoising: Option<PyReadonlyArray1<'_, f64>>,
    ) -> PyResult<Self> {
        let calibration = calibration(config, &layers, denoising.as_ref());
        enter(py, |_| self.0.with_calibration(Some(calibration)).map(Scorer))
    }

    /// A scorer of the same weights and deltas without weights of scores.
    fn without_calibration(&self, py: Python<'_>) -> PyResult<Self> {
        enter(py, |_| self.0.with_calibration(None).map(Scorer))
    }

    /// A copy of the deltas in use.
    fn deltas(&self, py: Python<'_>) -> PyResult<Option<Deltas>> {
        enter(py, |_| Ok(self.0.deltas().map(|deltas| Deltas::new(deltas.copy()))))
    }

    /// Head weights of a pair by the configuration's attribution, float32 [steps, H] by layer.
    #[pyo3(signature = (image, text, config, noise))]
    fn head_weights<'py>(
        &self,
        py: Python<'py>,
        image: Image,
        text: String,
        config: &ScoreConfig,
        noise: Option<PyReadonlyArrayDyn<'py, f32>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let noise = noise.as_ref().map(to_tensor);
        let weights: Vec<(String, Floats)> = enter(py, |_| {
            let request = Request { images: &[image], texts: &[&text], pairs: &[(0, 0)], noise };
            let weights = self.0.head_weights(&request, config.get())?;
            Ok(weights.into_iter().map(|(layer, weights)| (layer, Floats::new(&weights))).collect())
        })?;
        let dict = PyDict::new(py);
        for (layer, weights) in weights {
            dict.set_item(layer, weights.into_py(py))?;
        }
        Ok(dict)
    }

    /// Token ids and what they stand for.
    fn tokenize<'py>(&self, py: Python<'py>, text: &str, truncate: &str) -> PyResult<Bound<'py, PyDict>> {
        let tokens = enter(py, |_| self.0.tokenize(text, truncation(truncate)?))?;
        if truncate == "warn" && tokens.truncated() {
            warn_truncated(py, Truncation { count: 1, limit: self.0.max_tokens() })?;
        }
        tokens_dict(py, &tokens)
    }

    /// Latents float32 [n, C, h, w].
    fn encode_images<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Image>,
        config: &ScoreConfig,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let latents = enter(py, |_| Ok(Floats::new(&self.0.encode_images(&images, config.get())?)))?;
        Ok(latents.into_py(py))
    }

    /// Text vectors float32 [n, m, D].
    fn encode_texts<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        config: &ScoreConfig,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let vectors = enter(py, |_| {
            Ok(Floats::new(&self.0.encode_texts(&strs(&texts), config.get().truncate)?.conditioning.context))
        })?;
        Ok(vectors.into_py(py))
    }

    /// Unit vectors of images, float32 [n, D].
    fn embed_images<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Image>,
        config: &ScoreConfig,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let vectors = enter(py, |_| Ok(Floats::new(&self.0.embed_images(&images, config.get())?)))?;
        Ok(vectors.into_py(py))
    }

    /// Unit vectors of texts, float32 [n, D].
    #[pyo3(signature = (texts, config, progress))]
    fn embed_texts<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        config: &ScoreConfig,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let vectors = enter(py, |raised| {
            let on_progress = |event| tell(event, progress.as_ref(), raised);
            Ok(Floats::new(&self.0.embed_texts(&strs(&texts), config.get(), on_progress)?))
        })?;
        Ok(vectors.into_py(py))
    }

    /// The latents of null images, float32 [k, C, h, w].
    fn null_latents<'py>(&self, py: Python<'py>, config: &ScoreConfig) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let latents = enter(py, |_| Ok(Floats::new(&self.0.null_latents(config.get())?)))?;
        Ok(latents.into_py(py))
    }

    /// What texts score without an image, at each timestep; float64 [n, steps].
    #[pyo3(signature = (texts, config, progress))]
    fn blind<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        config: &ScoreConfig,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let rows = enter(py, |raised| {
            self.0.blind(&strs(&texts), config.get(), |event| tell(event, progress.as_ref(), raised))
        })?;
        Ok(PyArray2::from_vec2(py, &rows)?)
    }

    /// Refuses a configuration that asks for layers, heads or times that the model has not.
    fn check(&self, py: Python<'_>, config: &ScoreConfig) -> PyResult<()> {
        enter(py, |_| self.0.check_config(config.get()).map(drop))
    }

    /// Pooled vectors of texts, float32 [n, p], of models that take one.
    fn encode_pooled<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        config: &ScoreConfig,
    ) -> PyResult<Option<Bound<'py, PyArrayDyn<f32>>>> {
        let vectors = enter(py, |_| {
            let conditioning = self.0.encode_texts(&strs(&texts), config.get().truncate)?.conditioning;
            Ok(conditioning.pooled.as_ref().map(Floats::new))
        })?;
        Ok(vectors.map(|vectors| vectors.into_py(py)))
    }

    /// The times of a configuration.
    fn timesteps<'py>(&self, py: Python<'py>, config: &ScoreConfig) -> PyResult<Bound<'py, PyAny>> {
        let times = enter(py, |_| self.0.times(config.get()))?;
        times_list(py, &times)
    }

    /// ᾱ_t, float32 [T], of diffusion models.
    fn alphas_cumprod<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<f32>>> {
        self.0.process().alphas_cumprod().map(|alphas| PyArray1::from_slice(py, alphas))
    }

    /// The seeded noise of a configuration, float32 [steps, C, h, w].
    fn noise<'py>(&self, py: Python<'py>, config: &ScoreConfig) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let noise = enter(py, |_| Ok(Floats::new(&self.0.noise(config.get())?)))?;
        Ok(noise.into_py(py))
    }

    /// The score of each pair (image, text) at each timestep, float64 [n, steps].
    #[pyo3(signature = (images, texts, pairs, config, noise, progress))]
    fn score_pairs<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Image>,
        texts: Vec<String>,
        pairs: PyReadonlyArray2<'py, i64>,
        config: &ScoreConfig,
        noise: Option<PyReadonlyArrayDyn<'py, f32>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let pairs = pairs.as_array().to_owned();
        let noise = noise.as_ref().map(to_tensor);
        let rows = enter(py, |raised| {
            let pairs = indices(&pairs, images.len(), texts.len())?;
            let request = Request { images: &images, texts: &strs(&texts), pairs: &pairs, noise };
            self.0.score_pairs(&request, config.get(), |event| tell(event, progress.as_ref(), raised))
        })?;
        Ok(PyArray2::from_vec2(py, &rows)?)
    }

    /// What `score_pairs` weighs: the pooled maps of every head by layer, float32 [n, steps, H], and the denoising terms,
    /// float64 [n, steps], or None; and the same of each text without an image, if the configuration has a prior.
    #[pyo3(signature = (images, texts, pairs, config, noise, progress))]
    fn head_scores<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Image>,
        texts: Vec<String>,
        pairs: PyReadonlyArray2<'py, i64>,
        config: &ScoreConfig,
        noise: Option<PyReadonlyArrayDyn<'py, f32>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Numbers<'py>, Option<Numbers<'py>>)> {
        let pairs = pairs.as_array().to_owned();
        let noise = noise.as_ref().map(to_tensor);
        let (own, prior) = enter(py, |raised| {
            let pairs = indices(&pairs, images.len(), texts.len())?;
            let request = Request { images: &images, texts: &strs(&texts), pairs: &pairs, noise };
            let found = self.0.head_scores(&request, config.get(), |event| tell(event, progress.as_ref(), raised))?;
            Ok((OfHeads::new(&found), found.prior.as_deref().map(OfHeads::new)))
        })?;
        Ok((own.into_py(py)?, prior.map(|prior| prior.into_py(py)).transpose()?))
    }

    /// Encoded images and texts, to be scored in parts.
    #[pyo3(signature = (images, texts, config, noise))]
    fn prepare(
        &self,
        py: Python<'_>,
        images: Vec<Image>,
        texts: Vec<String>,
        config: &ScoreConfig,
        noise: Option<PyReadonlyArrayDyn<'_, f32>>,
    ) -> PyResult<Prepared> {
        let noise = noise.as_ref().map(to_tensor);
        enter(py, |_| {
            self.0.prepare(&Request { images: &images, texts: &strs(&texts), pairs: &[], noise }, config.get())
        })
        .map(Prepared::new)
    }

    /// One evaluation in full: maps, prediction, latents, noise, tokens. `layers` are names; all if None, and none if empty.
    #[pyo3(signature = (image, text, timestep, layers, map, want_prediction, config, noise))]
    fn observe<'py>(
        &self,
        py: Python<'py>,
        image: Image,
        text: String,
        timestep: f64,
        layers: Option<Vec<String>>,
        map: &str,
        want_prediction: bool,
        config: &ScoreConfig,
        noise: Option<PyReadonlyArrayDyn<'py, f32>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let noise = noise.as_ref().map(to_tensor);
        let seen = enter(py, |_| {
            let map = MapKind::from_name(map).ok_or_else(|| {
                Error::Config(format!("map is {map:?}; expected one of {}", MapKind::NAMES.join(", ")))
            })?;
            let layers = match layers {
                None => Some(Layers::All),
                Some(names) if names.is_empty() => None,
                Some(names) => Some(Layers::Named(names)),
            };
            let request = ObserveRequest {
                image: &image,
                text: &text,
                time: timestep,
                layers: layers.as_ref(),
                map,
                prediction: want_prediction,
                noise,
            };
            self.0.observe(&request, config.get())
        })?;
        let array = |tensor| Floats::new(tensor).into_py(py);
        let maps = PyDict::new(py);
        for (layer, map) in &seen.maps {
            maps.set_item(layer, array(map))?;
        }
        let dict = PyDict::new(py);
        dict.set_item("maps", maps)?;
        dict.set_item("prediction", seen.prediction.as_ref().map(array))?;
        dict.set_item("latent", array(&seen.noised))?;
        dict.set_item("clean", array(&seen.clean))?;
        dict.set_item("noise", array(&seen.noise))?;
        dict.set_item("tokens", tokens_dict(py, &seen.tokens)?)?;
        Ok(dict)
    }
}

fn prediction(name: &str) -> Result<Prediction> {
    Prediction::from_name(name).ok_or_else(|| {
        let names = Prediction::ALL.map(Prediction::name).join(", ");
        Error::Config(format!("prediction_type is {name:?}; expected one of {names}"))
    })
}

/// The texts as the core takes them.
pub fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
