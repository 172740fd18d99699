use numpy::PyReadonlyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tch::Tensor;

use super::arrays::{Doubles, Floats, to_tensor};
use super::config::ScoreConfig;
use super::enter::enter;
use super::images::Image;
use super::pairs::tell;
use super::scorer::Scorer;
use super::tools::{times_list, tokens_dict};
use super::values::to_value;
use crate::Error;
use crate::config::{self, MapKind};
use crate::runtime::Visit;
use crate::score::{Maps, Request};

/// The score of an image and a text, taken apart; maps of `map` at `layers` (a value of the option `layers`).
#[pyfunction]
#[pyo3(signature = (scorer, image, text, map, layers, config, noise, progress))]
pub fn explain<'py>(
    py: Python<'py>,
    scorer: &Scorer,
    image: Image,
    text: String,
    map: &str,
    layers: &Bound<'py, PyAny>,
    config: &ScoreConfig,
    noise: Option<PyReadonlyArrayDyn<'py, f32>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let (layers, noise) = (to_value("layers", layers)?, noise.as_ref().map(to_tensor));
    let found = enter(py, |raised| {
        let kind = MapKind::from_name(map)
            .ok_or_else(|| Error::Config(format!("map is {map:?}; expected one of {}", MapKind::NAMES.join(", "))))?;
        let layers = config::layers().parse("layers", &layers)?;
        let image = image.rgb()?.into_owned().into();
        let request = Request { images: &[image], texts: &[&text], pairs: &[(0, 0)], noise };
        scorer
            .model()
            .explain(&request, &Maps { kind, layers }, config.get(), |event| tell(event, progress.as_ref(), raised))
    })?;
    let _visit = Visit::new();
    let floats = |tensor: &Tensor| Floats::new(tensor).into_py(py);
    let doubles = |tensor: &Tensor| Doubles::new(tensor).into_py(py);
    let (contributions, maps) = (PyDict::new(py), PyDict::new(py));
    for (layer, of_layer) in &found.contributions {
        contributions.set_item(layer, doubles(of_layer))?;
    }
    for (layer, map) in &found.maps {
        maps.set_item(layer, floats(map))?;
    }
    let dict = PyDict::new(py);
    dict.set_item("tokens", tokens_dict(py, &found.tokens)?)?;
    dict.set_item("timesteps", times_list(py, &found.times)?)?;
    dict.set_item("view", found.view)?;
    dict.set_item("scores", doubles(&Tensor::from_slice(&found.scores)))?;
    dict.set_item("denoising", doubles(&Tensor::from_slice(&found.denoising)))?;
    dict.set_item("prior", doubles(&Tensor::from_slice(&found.prior)))?;
    dict.set_item("contributions", contributions)?;
    dict.set_item("places", found.places.as_ref().map(doubles))?;
    dict.set_item("maps", maps)?;
    dict.set_item("by_timestep", floats(&found.by_timestep))?;
    Ok(dict)
}
