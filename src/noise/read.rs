use super::{Flow, FlowConfig, Prediction, Process, Schedule, SchedulerConfig};
use crate::checkpoint::Json;
use crate::{Error, Result};

/// What a pipeline of diffusers says of the process beside the scheduler's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipelineSettings {
    /// The offset of DDIM's timesteps of pipelines that override offset and clipping of the file.
    pub steps_offset: Option<i64>,
    /// Rows and columns of latent pixels in an image token, if the network has patches.
    pub patch_size: Option<i64>,
}

/// Reads the process of a scheduler's configuration, by its class: that of the file, or else `named`, of the pipeline's
/// index. `prediction` corrects the file's type of prediction.
///
/// # Errors
/// `Checkpoint`, naming the field, if a value is malformed or not supported; `Config` if `prediction` is none of the
/// process.
pub fn read(
    config: &Json,
    named: Option<String>,
    pipeline: PipelineSettings,
    prediction: Option<Prediction>,
) -> Result<Box<dyn Process>> {
    let class = config.optional::<String>("_class_name")?.or(named);
    let is_flow = class.as_deref() == Some(FlowConfig::CLASS);
    if let Some(other) = prediction.filter(|prediction| (*prediction == Prediction::Flow) != is_flow) {
        return Err(Error::Config(format!(
            "prediction_type is {:?}, which no model with this scheduler predicts ({}); its scheduler_config.json should \
             name another class",
            other.name(),
            class.as_deref().unwrap_or("no class is named")
        )));
    }
    if is_flow {
        return Ok(Box::new(Flow::new(FlowConfig::read(config, pipeline.patch_size)?)));
    }
    let read = SchedulerConfig::read(config, class.as_deref(), pipeline.steps_offset)?;
    Ok(Box::new(Schedule::new(SchedulerConfig { prediction: prediction.unwrap_or(read.prediction), ..read })))
}
