//! `discffusion._core`: the only place that names pyo3. Convert, run, convert back.

mod arrays;
mod calibration;
mod config;
mod deltas;
mod enter;
mod errors;
mod explain;
mod generate;
mod head_scores;
mod images;
mod pairs;
mod scorer;
mod tools;
mod trainer;
mod values;

use pyo3::prelude::*;

/// The Rust core of discffusion.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::config::{ScoreConfig, config_options, generate_options, train_check, train_options};
    #[pymodule_export]
    use super::deltas::Deltas;
    #[pymodule_export]
    use super::explain::explain;
    #[pymodule_export]
    use super::generate::{decode_latents, generate, generate_check};
    #[pymodule_export]
    use super::images::{decode_image, preprocess_image};
    #[pymodule_export]
    use super::pairs::Prepared;
    #[pymodule_export]
    use super::scorer::Scorer;
    #[pymodule_export]
    use super::tools::{
        Tokenizer, after_fork_in_child, before_fork, cuda_available, cuda_device_count, did_you_mean, families,
        family_of, weights_stem,
    };
    #[pymodule_export]
    use super::trainer::Trainer;

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::config::complete(&module.py().get_type::<ScoreConfig>())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("TORCH_VERSION", crate::device::TORCH_VERSION)
    }
}
