//! The configuration of a score as an object of Python, parsed once.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyMapping, PyString, PyTuple, PyType};
use serde_json::Value;

use super::values::{raised, to_dict, to_fields, to_object, to_table};
use crate::config::{self, Fields, GenerateConfig, Times, TrainConfig};
use crate::{Error, Result};

/// A configuration; its documentation is made from the table of options.
#[pyclass(frozen, module = "discffusion")]
pub struct ScoreConfig(config::ScoreConfig);

impl ScoreConfig {
    pub fn get(&self) -> &config::ScoreConfig {
        &self.0
    }

    /// Null is no choice among the ways to say at which times a pair is scored.
    fn constructed(mut fields: Fields) -> Result<Self> {
        fields.retain(|name, value| !(value.is_null() && Times::WAYS.contains(&name.as_str())));
        config::ScoreConfig::from_fields(&fields).map(ScoreConfig)
    }

    /// The options that are written, in order.
    fn items(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.0.to_fields();
        let names = config::ScoreConfig::options().iter().map(|option| option.name);
        names.filter_map(|name| fields.remove(name).map(|value| (name, value))).collect()
    }
}

fn named(given: Option<&Bound<'_, PyDict>>) -> PyResult<Fields> {
    given.map_or(Ok(Fields::new()), |given| to_fields(given, config::ScoreConfig::check_name))
}

#[pymethods]
impl ScoreConfig {
    /// The names that `preset` takes.
    #[classattr]
    #[pyo3(name = "PRESETS")]
    fn presets(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, config::ScoreConfig::PRESETS)
    }

    #[new]
    #[pyo3(signature = (*args, **fields), text_signature = "(**fields)")]
    fn new(py: Python<'_>, args: &Bound<'_, PyTuple>, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        if !args.is_empty() {
            let message = "options are given by name; for a preset use ScoreConfig.preset(name)";
            return raised(py, Err(Error::Config(message.into())));
        }
        raised(py, Self::constructed(named(fields)?))
    }

    /// A named configuration.
    ///
    /// ``"default"``; ``"attention"``, the best attention score that was measured on the pocket model; ``"paper"``, the
    /// method as published; ``"release"``, the authors' released code.
    #[staticmethod]
    fn preset(name: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name_text = name.str()?.to_string_lossy().into_owned();
        raised(name.py(), config::ScoreConfig::preset(&name_text).map(ScoreConfig))
    }

    /// A configuration from what users give: one, a preset's name, a mapping or None; then changed by `fields`.
    #[classmethod]
    #[pyo3(signature = (config = None, **fields))]
    fn make<'py>(
        class: &Bound<'py, PyType>,
        config: Option<&Bound<'py, PyAny>>,
        fields: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = class.py();
        let base = match config {
            None => Bound::new(py, ScoreConfig(config::ScoreConfig::default()))?,
            Some(config) => match config.cast::<Self>() {
                Ok(config) => config.clone(),
                Err(_) if config.is_instance_of::<PyString>() => Bound::new(py, Self::preset(config)?)?,
                Err(_) if config.cast::<PyMapping>().is_ok() => Bound::new(py, Self::from_dict(class, config)?)?,
                Err(_) => {
                    let kind = config.get_type().name()?;
                    let message =
                        format!("config is {kind}; expected a ScoreConfig, a preset's name, a mapping or None");
                    return raised(py, Err(Error::Config(message)));
                }
            },
        };
        if fields.is_none_or(|fields| fields.is_empty()) {
            Ok(base)
        } else {
            Bound::new(py, base.get().replace(py, fields)?)
        }
    }

    /// A copy with some fields changed.
    ///
    /// One of steps, timesteps and noise_levels takes the others' place. Where it is steps, they are spread over the
    /// noise_range of this configuration, or over the default one if this configuration named its noise levels.
    #[pyo3(signature = (**fields))]
    fn replace(&self, py: Python<'_>, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let changes = named(fields)?;
        let given = |name: &str| changes.get(name).is_some_and(|value| !value.is_null());
        let ways: Vec<&str> = Times::WAYS.into_iter().filter(|way| given(way)).collect();
        let mut all = self.0.to_fields();
        if !ways.is_empty() || given("noise_range") {
            let by_range = !all["steps"].is_null() && matches!(ways[..], [] | ["steps"]);
            for name in ["steps", "noise_range"].into_iter().filter(|_| !by_range).chain(["timesteps", "noise_levels"])
            {
                all.remove(name);
            }
        }
        all.extend(changes);
        raised(py, Self::constructed(all))
    }

    #[pyo3(signature = (**fields))]
    fn __replace__(&self, py: Python<'_>, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        self.replace(py, fields)
    }

    /// All fields by name, as plain data (lists, not tuples). Those added later are left out while None.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in self.items() {
            dict.set_item(name, to_object(py, &value, false)?)?;
        }
        Ok(dict)
    }

    /// The fields that differ from the default configuration.
    fn changes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let default = config::ScoreConfig::default().to_fields();
        let dict = PyDict::new(py);
        for (name, value) in self.items().into_iter().filter(|(name, value)| default.get(*name) != Some(value)) {
            dict.set_item(name, to_object(py, &value, false)?)?;
        }
        Ok(dict)
    }

    /// The configuration with these fields; the others have their defaults.
    ///
    /// One that :meth:`to_dict` wrote before there was `noise_range` means what it meant: the whole schedule.
    #[classmethod]
    fn from_dict(_class: &Bound<'_, PyType>, fields: &Bound<'_, PyAny>) -> PyResult<Self> {
        let fields = to_fields(fields, config::ScoreConfig::check_name)?;
        raised(_class.py(), config::ScoreConfig::from_fields(&fields).map(ScoreConfig))
    }

    /// All fields of :meth:`to_dict`, in order, as a JSON object.
    fn to_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("json")?.call_method1("dumps", (self.to_dict(py)?,))
    }

    /// The configuration that :meth:`to_json` wrote.
    #[staticmethod]
    fn from_json(py: Python<'_>, text: &str) -> PyResult<Self> {
        raised(py, config::ScoreConfig::from_json(text).map(ScoreConfig))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let items = self.items().into_iter().map(|(name, value)| {
            let shown = to_object(py, &value, true)?.repr()?;
            Ok(format!("{name}={shown}"))
        });
        Ok(format!("ScoreConfig({})", items.collect::<PyResult<Vec<_>>>()?.join(", ")))
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> Py<PyAny> {
        match other.cast::<Self>() {
            Ok(other) => (self.0 == other.get().0).into_py_any(py).expect("a truth value"),
            Err(_) => py.NotImplemented(),
        }
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        let values = self.items().into_iter().map(|(_, value)| to_object(py, &value, true));
        PyTuple::new(py, values.collect::<PyResult<Vec<_>>>()?)?.hash()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyDict>,))> {
        Ok((py.get_type::<Self>().getattr("from_dict")?, (self.to_dict(py)?,)))
    }

    fn __copy__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __deepcopy__(this: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        this
    }

    fn __setattr__(&self, py: Python<'_>, name: &str, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        frozen(py, "assign to", name)
    }

    fn __delattr__(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        frozen(py, "delete", name)
    }
}

fn frozen(py: Python<'_>, action: &str, name: &str) -> PyResult<()> {
    let error = py.import("dataclasses")?.getattr("FrozenInstanceError")?;
    Err(PyErr::from_value(error.call1((format!("cannot {action} field '{name}'"),))?))
}

/// Adds a property for each option, and what Python says of them: types, documentation, signature.
pub fn complete(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let property = py.import("builtins")?.getattr("property")?;
    for option in config::ScoreConfig::options() {
        let get = move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<Py<PyAny>> {
            let this = args.get_item(0)?;
            let config = this.cast::<ScoreConfig>().map_err(|_| PyTypeError::new_err("expected a ScoreConfig"))?;
            let value = config.get().0.to_fields().remove(option.name).unwrap_or_else(|| option.default.clone());
            to_object(args.py(), &value, true).map(Bound::unbind)
        };
        let get = PyCFunction::new_closure(py, None, None, get)?;
        class.setattr(option.name, property.call1((get, py.None(), py.None(), option.help.as_str()))?)?;
    }
    let table = to_table(py, config::ScoreConfig::options())?;
    py.import("discffusion._options")?.call_method1("describe", (class, table)).map(drop)
}

/// The options of a score, in order: name, help, kind, choices, range, null, default.
#[pyfunction]
pub fn config_options(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    to_table(py, config::ScoreConfig::options())
}

/// The options of training, as `config_options`.
#[pyfunction]
pub fn train_options(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    to_table(py, TrainConfig::options())
}

/// The options of generation, as `config_options`.
#[pyfunction]
pub fn generate_options(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    to_table(py, GenerateConfig::options())
}

/// Checks options of training and completes them with the defaults.
#[pyfunction]
pub fn train_check<'py>(options: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    to_dict(options.py(), &train_config(options)?.to_fields())
}

/// Options of training.
pub fn train_config(options: &Bound<'_, PyAny>) -> PyResult<TrainConfig> {
    let fields = to_fields(options, TrainConfig::check_name)?;
    raised(options.py(), TrainConfig::from_fields(&fields))
}

/// Options of generation.
pub fn generate_config(options: &Bound<'_, PyAny>) -> PyResult<GenerateConfig> {
    let fields = to_fields(options, GenerateConfig::check_name)?;
    raised(options.py(), GenerateConfig::from_fields(&fields))
}
