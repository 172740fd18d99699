use std::path::PathBuf;

use numpy::{PyArray1, PyArray2, PyArrayDyn, PyReadonlyArray2, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::json;

use super::arrays::{Floats, to_tensor};
use super::deltas::Deltas;
use super::door::enter;
use super::images::Image;
use super::pairs::{Prepared, indices, tell, warn};
use super::tools::{tokens_dict, truncation};
use crate::checkpoint::{Checkpoint, Prediction};
use crate::config::{MapKind, ScoreConfig};
use crate::encode::tokenizer::Truncate;
use crate::score::{Look, Model, Request};
use crate::torch::{device_name, dtype_name, parse_device, parse_dtype};
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
            let mut checkpoint = Checkpoint::open(&path, variant.as_deref())?.lazy(lazy);
            if let Some(name) = prediction_type {
                checkpoint.scheduler.prediction = prediction(name)?;
            }
            Model::new(checkpoint, device, parse_dtype(dtype, device)?)
        })
        .map(Scorer)
    }

    /// What the model is, as a JSON object.
    fn info(&self) -> String {
        let (model, parameters) = (&self.0, self.0.parameters());
        let (checkpoint, scheduler) = (model.checkpoint(), &model.checkpoint().scheduler);
        let sites = model.sites().iter().map(|s| json!({"name": s.name(), "heads": s.heads, "channels": s.channels}));
        json!({
            "path": checkpoint.dir(),
            "device": device_name(model.device()),
            "dtype": dtype_name(model.kind()),
            "num_parameters": {
                "unet": parameters.unet,
                "vae_encoder": parameters.vae_encoder,
                "text_encoder": parameters.text_encoder,
                "total": parameters.unet + parameters.vae_encoder + parameters.text_encoder,
            },
            "prediction_type": scheduler.prediction.name(),
            "num_train_timesteps": scheduler.train_timesteps,
            "latent_channels": checkpoint.vae.latent_channels,
            "sample_size": checkpoint.unet.sample_size,
            "vae_scale_factor": checkpoint.vae.scale_factor(),
            "resolution": model.resolution(),
            "max_tokens": checkpoint.text.max_tokens,
            "sites": sites.collect::<Vec<_>>(),
        })
        .to_string()
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

    /// A copy of the deltas in use.
    fn deltas(&self, py: Python<'_>) -> PyResult<Option<Deltas>> {
        enter(py, |_| Ok(self.0.deltas().map(|deltas| Deltas::new(deltas.copy()))))
    }

    /// Head weights of a pair by the configuration's attribution, float32 [steps, H] by site.
    #[pyo3(signature = (image, text, config, noise))]
    fn head_weights<'py>(
        &self,
        py: Python<'py>,
        image: Image,
        text: String,
        config: &str,
        noise: Option<PyReadonlyArrayDyn<'py, f32>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let noise = noise.as_ref().map(to_tensor);
        let weights: Vec<(String, Floats)> = enter(py, |_| {
            let config = ScoreConfig::from_json(config)?;
            let request = Request { images: &[image], texts: &[&text], pairs: &[(0, 0)], noise };
            let weights = self.0.head_weights(&request, &config)?;
            Ok(weights.into_iter().map(|(site, weights)| (site, Floats::new(&weights))).collect())
        })?;
        let dict = PyDict::new(py);
        for (site, weights) in weights {
            dict.set_item(site, weights.into_py(py))?;
        }
        Ok(dict)
    }

    /// Token ids and what they stand for.
    fn tokenize<'py>(&self, py: Python<'py>, text: &str, truncate: &str) -> PyResult<Bound<'py, PyDict>> {
        let tokens = enter(py, |_| self.0.tokenize(text, truncation(truncate)?))?;
        if truncate == "warn" {
            warn_truncated(py, usize::from(tokens.truncated), tokens.ids.len())?;
        }
        tokens_dict(py, &tokens)
    }

    /// Latents float32 [n, C, h, w].
    fn encode_images<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Image>,
        config: &str,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let latents = enter(py, |_| {
            let config = ScoreConfig::from_json(config)?;
            Ok(Floats::new(&self.0.encode_images(&images, &config)?))
        })?;
        Ok(latents.into_py(py))
    }

    /// Text vectors float32 [n, m, D].
    fn encode_texts<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        config: &str,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        self.warn(py, &texts, config)?;
        let vectors = enter(py, |_| {
            let config = ScoreConfig::from_json(config)?;
            Ok(Floats::new(&self.0.encode_texts(&strs(&texts), config.truncate)?.vectors))
        })?;
        Ok(vectors.into_py(py))
    }

    /// Unit vectors of images, float32 [n, D].
    fn embed_images<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Image>,
        config: &str,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let vectors = enter(py, |_| {
            let config = ScoreConfig::from_json(config)?;
            Ok(Floats::new(&self.0.embed_images(&images, &config)?))
        })?;
        Ok(vectors.into_py(py))
    }

    /// Unit vectors of texts, float32 [n, D].
    #[pyo3(signature = (texts, config, progress))]
    fn embed_texts<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        config: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        self.warn(py, &texts, config)?;
        let vectors = enter(py, |raised| {
            let config = ScoreConfig::from_json(config)?;
            let told = |event| tell(event, progress.as_ref(), raised);
            Ok(Floats::new(&self.0.embed_texts(&strs(&texts), &config, told)?))
        })?;
        Ok(vectors.into_py(py))
    }

    /// Refuses a configuration that asks for layers, heads or times that the model has not.
    fn check(&self, py: Python<'_>, config: &str) -> PyResult<()> {
        enter(py, |_| self.0.check_config(&ScoreConfig::from_json(config)?).map(drop))
    }

    /// The timesteps of a configuration.
    fn timesteps(&self, py: Python<'_>, config: &str) -> PyResult<Vec<i64>> {
        enter(py, |_| self.0.timesteps(&ScoreConfig::from_json(config)?))
    }

    /// ᾱ_t, float32 [T].
    fn alphas_cumprod<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, self.0.schedule().alphas_cumprod())
    }

    /// The seeded noise of a configuration, float32 [steps, C, h, w].
    fn noise<'py>(&self, py: Python<'py>, config: &str) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let noise = enter(py, |_| Ok(Floats::new(&self.0.noise(&ScoreConfig::from_json(config)?)?)))?;
        Ok(noise.into_py(py))
    }

    /// The score of each pair (image, text) at each timestep, float64 [n, steps].
    #[pyo3(signature = (images, texts, pairs, config, noise, progress))]
    #[allow(clippy::too_many_arguments)]
    fn score_pairs<'py>(
        &self,
        py: Python<'py>,
        images: Vec<Image>,
        texts: Vec<String>,
        pairs: PyReadonlyArray2<'py, i64>,
        config: &str,
        noise: Option<PyReadonlyArrayDyn<'py, f32>>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        self.warn(py, &texts, config)?;
        let pairs = pairs.as_array().to_owned();
        let noise = noise.as_ref().map(to_tensor);
        let rows = enter(py, |raised| {
            let config = ScoreConfig::from_json(config)?;
            let pairs = indices(&pairs, images.len(), texts.len())?;
            let request = Request { images: &images, texts: &strs(&texts), pairs: &pairs, noise };
            self.0.score_pairs(&request, &config, |event| tell(event, progress.as_ref(), raised))
        })?;
        Ok(PyArray2::from_vec2(py, &rows)?)
    }

    /// Encoded images and texts, to be scored in parts.
    #[pyo3(signature = (images, texts, config, noise))]
    fn prepare(
        &self,
        py: Python<'_>,
        images: Vec<Image>,
        texts: Vec<String>,
        config: &str,
        noise: Option<PyReadonlyArrayDyn<'_, f32>>,
    ) -> PyResult<Prepared> {
        self.warn(py, &texts, config)?;
        let noise = noise.as_ref().map(to_tensor);
        enter(py, |_| {
            let config = ScoreConfig::from_json(config)?;
            self.0.prepare(&Request { images: &images, texts: &strs(&texts), pairs: &[], noise }, &config)
        })
        .map(Prepared::new)
    }

    /// One evaluation in full: maps, prediction, latents, noise, tokens.
    #[pyo3(signature = (image, text, timestep, sites, map, want_prediction, config, noise))]
    #[allow(clippy::too_many_arguments)]
    fn observe<'py>(
        &self,
        py: Python<'py>,
        image: Image,
        text: String,
        timestep: i64,
        sites: Option<Vec<String>>,
        map: &str,
        want_prediction: bool,
        config: &str,
        noise: Option<PyReadonlyArrayDyn<'py, f32>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let texts = [text];
        self.warn(py, &texts, config)?;
        let noise = noise.as_ref().map(to_tensor);
        let sight = enter(py, |_| {
            let config = ScoreConfig::from_json(config)?;
            let map = MapKind::from_name(map).ok_or_else(|| {
                Error::Config(format!("map is {map:?}; expected one of {}", MapKind::NAMES.join(", ")))
            })?;
            let look = Look {
                image: &image,
                text: &texts[0],
                timestep,
                sites: sites.as_deref(),
                map,
                prediction: want_prediction,
                noise,
            };
            self.0.look(&look, &config)
        })?;
        let array = |tensor| Floats::new(tensor).into_py(py);
        let maps = PyDict::new(py);
        for (site, map) in &sight.maps {
            maps.set_item(site, array(map))?;
        }
        let dict = PyDict::new(py);
        dict.set_item("maps", maps)?;
        dict.set_item("prediction", sight.prediction.as_ref().map(array))?;
        dict.set_item("latent", array(&sight.noised))?;
        dict.set_item("clean", array(&sight.clean))?;
        dict.set_item("noise", array(&sight.noise))?;
        dict.set_item("tokens", tokens_dict(py, &sight.tokens)?)?;
        Ok(dict)
    }
}

impl Scorer {
    /// Warns once about texts that are longer than the model reads, if the configuration says so.
    pub fn warn(&self, py: Python<'_>, texts: &[String], config: &str) -> PyResult<()> {
        let truncate = enter(py, |_| Ok(ScoreConfig::from_json(config)?.truncate))?;
        self.warn_of(py, texts, truncate)
    }

    /// The same where it is known what becomes of them.
    pub fn warn_of(&self, py: Python<'_>, texts: &[String], truncate: Truncate) -> PyResult<()> {
        let (count, max) = enter(py, |_| {
            if truncate != Truncate::Warn {
                return Ok((0, 0));
            }
            let tokens = texts.iter().map(|text| self.0.tokenize(text, Truncate::Silent));
            let tokens = tokens.collect::<Result<Vec<_>>>()?;
            Ok((tokens.iter().filter(|tokens| tokens.truncated).count(), tokens.first().map_or(0, |t| t.ids.len())))
        })?;
        warn_truncated(py, count, max)
    }
}

fn warn_truncated(py: Python<'_>, count: usize, max: usize) -> PyResult<()> {
    if count == 0 {
        return Ok(());
    }
    let message = format!(
        "{count} text(s) are longer than the {max} tokens this model reads and were cut; the end token is kept"
    );
    warn(py, message)
}

fn prediction(name: &str) -> Result<Prediction> {
    Prediction::from_name(name)
        .ok_or_else(|| Error::Config(format!("prediction_type is {name:?}; expected \"epsilon\" or \"v_prediction\"")))
}

/// The texts as the core takes them.
pub fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
