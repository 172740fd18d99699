use ndarray::Array3;
use numpy::{IntoPyArray, PyArray3, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arrays::to_tensor;
use super::config::generate_config;
use super::enter::enter;
use super::pairs::tell;
use super::scorer::{Scorer, strs};
use super::values::to_dict;
use crate::Error;
use crate::config::{GenerateConfig, plain_number};
use crate::generate::{GenerateRequest, Resolved};

/// Options of generation, checked and completed with the model's own values, and the timesteps they lead to.
#[pyfunction]
pub fn generate_check<'py>(
    py: Python<'py>,
    scorer: &Scorer,
    options: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let config = generate_config(options)?;
    let completed = enter(py, |_| {
        let (model, found) = (scorer.model(), Resolved::new(scorer.model(), &config)?);
        let whole = GenerateConfig {
            steps: Some(found.steps),
            guidance_scale: Some(found.guidance_scale),
            height: Some(found.height),
            width: Some(found.width),
            ..config
        };
        let sampler = model.process().sampler(found.steps, whole.eta, found.latent_size(model))?;
        let mut fields = whole.to_fields();
        fields.insert("timesteps".into(), sampler.times().iter().map(|time| plain_number(time.0)).collect());
        Ok(fields)
    })?;
    to_dict(py, &completed)
}

/// Images uint8 [H, W, 3] of each prompt, those of one prompt together.
#[pyfunction]
#[pyo3(signature = (scorer, prompts, negatives, seeds, options, latents, noise, progress))]
pub fn generate<'py>(
    py: Python<'py>,
    scorer: &Scorer,
    prompts: Vec<String>,
    negatives: Vec<String>,
    seeds: Vec<u64>,
    options: &Bound<'py, PyAny>,
    latents: Option<PyReadonlyArrayDyn<'py, f32>>,
    noise: Option<PyReadonlyArrayDyn<'py, f32>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<Bound<'py, PyArray3<u8>>>> {
    let config = generate_config(options)?;
    let (latents, noise) = (latents.as_ref().map(to_tensor), noise.as_ref().map(to_tensor));
    let images = enter(py, |raised| {
        let (prompts, negatives) = (strs(&prompts), strs(&negatives));
        let request = GenerateRequest { prompts: &prompts, negatives: &negatives, seeds: &seeds, latents, noise };
        scorer.model().generate(&request, &config, |event| tell(event, progress.as_ref(), raised))
    })?;
    let array = |image: crate::encode::image::Rgb| {
        let shape = (image.height, image.width, 3);
        Array3::from_shape_vec(shape, image.data).expect("the data is as long as its shape says").into_pyarray(py)
    };
    Ok(images.into_iter().map(array).collect())
}

/// Latents float32 [n, C, h, w] to images in [−1, 1], float32 [n, 3, H, W].
#[pyfunction]
pub fn decode_latents<'py>(
    py: Python<'py>,
    scorer: &Scorer,
    latents: PyReadonlyArrayDyn<'py, f32>,
) -> PyResult<Bound<'py, numpy::PyArrayDyn<f32>>> {
    let latents = to_tensor(&latents);
    let images = enter(py, move |_| {
        let model = scorer.model();
        let channels = model.vae().latent_channels;
        match latents.size()[..] {
            [n, c, h, w] if c == channels && n.min(h).min(w) > 0 => (),
            ref size => {
                return Err(Error::Config(format!(
                    "latents have the shape {size:?}; expected [n, C, h, w] with C = {channels}"
                )));
            }
        }
        Ok(super::arrays::Floats::new(&model.decode_latents(&latents.to_device(model.device()))?))
    })?;
    Ok(images.into_py(py))
}
