//! The initial deltas of a training run: zero, or the model's own.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::draw;
use super::temperature::Temperature;
use crate::config::{Loss, MapKind, Modalities, Projections, ScoreConfig, TemperatureSchedule, TrainConfig};
use crate::deltas::{AttentionKind, Delta, Deltas, Projection, Target};
use crate::model::Model;
use crate::score::{Coefficients, select_layers};
use crate::{Error, Result};

/// The initial state of a training run.
pub struct Start {
    /// The deltas, on the model's device.
    pub deltas: Deltas,
    /// The trained tensors of the deltas, as leaves.
    pub trained: Vec<Tensor>,
    /// For each trained tensor, whether the loss depends on it.
    pub reached: Vec<bool>,
}

/// The initial deltas of a model; `scored` says for each layer whether it is scored.
///
/// # Errors
/// `Config` if the options do not fit the model, the score or the loaded deltas.
pub fn deltas(model: &Model, config: &ScoreConfig, options: &TrainConfig, scored: &[bool]) -> Result<Start> {
    let layers = select_layers(model.layers(), &options.layers)?;
    let first = layers.iter().position(|&trained| trained).expect("a selection is never empty");
    let last_scored = scored.iter().rposition(|&scored| scored).expect("a selection is never empty");
    let coefficients = Coefficients::new(config, model.calibration());
    let maps_alone = !coefficients.needs_prediction() && options.loss != Loss::Diffusion;
    if maps_alone && first > last_scored {
        return Err(Error::Config(format!(
            "the first trained layer, {}, lies behind the last one that is scored, {}; it has no influence on the score",
            model.layers()[first].name,
            model.layers()[last_scored].name
        )));
    }
    let mut deltas = match model.deltas() {
        Some(deltas) => deltas.copy(),
        None => Deltas {
            architecture: model.architecture().clone(),
            entries: Default::default(),
            head_weights: None,
            metadata: HashMap::new(),
            fingerprint: None,
        },
    };
    deltas.fingerprint = Some(model.fingerprint()?);
    for delta in deltas.entries.values_mut() {
        *delta = delta.map(|tensor| tensor.to_device(model.device()));
    }
    let (mut trained, mut reached) = (vec![], vec![]);
    for target in targets(&layers, options) {
        let before = deltas.entries.remove(&target);
        let delta = begin(before, target, &deltas, options, model.device())?;
        let delta = delta.map(|tensor| tensor.set_requires_grad(true));
        let counts = !maps_alone || target.layer + delay(target, model, config) <= last_scored;
        reached.extend(delta.tensors().iter().map(|_| counts));
        trained.extend(delta.tensors().into_iter().map(|(_, tensor)| tensor.shallow_clone()));
        deltas.entries.insert(target, delta);
    }
    Ok(Start { deltas, trained, reached })
}

/// The temperature, where nothing has to be measured for it.
pub fn temperature(options: &TrainConfig) -> Option<Temperature> {
    match options.loss {
        Loss::Diffusion => Some(Temperature::constant(1.0)),
        _ if options.temperature_schedule == TemperatureSchedule::Noise => None,
        _ => options.temperature.map(Temperature::constant),
    }
}

/// How many layers behind its own the first map is that a weight influences.
fn delay(target: Target, model: &Model, config: &ScoreConfig) -> usize {
    let value = target.projection == Projection::Value;
    usize::from(match (target.attention, model.architecture().joint) {
        // A map depends on the text's keys; values only influence later layers.
        (AttentionKind::Cross, _) => value,
        // Self-attention comes before the map of its block.
        (AttentionKind::Itself, false) => false,
        // Of the image's keys, the softmax over all keys depends on them.
        (AttentionKind::Itself, true) => value || config.map != MapKind::Probs,
    })
}

fn targets(layers: &[bool], options: &TrainConfig) -> Vec<Target> {
    let projections: &[Projection] = match options.projections {
        Projections::KeyValue => &[Projection::Key, Projection::Value],
        Projections::Key => &[Projection::Key],
        Projections::Value => &[Projection::Value],
    };
    let attentions: &[AttentionKind] = match options.modalities {
        Modalities::Text => &[AttentionKind::Cross],
        Modalities::Both => &AttentionKind::ALL,
    };
    let chosen = (0..layers.len()).filter(|&layer| layers[layer]);
    let of = |layer| {
        let of_attention =
            move |&attention| projections.iter().map(move |&projection| Target { layer, attention, projection });
        attentions.iter().flat_map(of_attention)
    };
    chosen.flat_map(of).collect()
}

fn begin(
    before: Option<Delta>,
    target: Target,
    deltas: &Deltas,
    options: &TrainConfig,
    device: Device,
) -> Result<Delta> {
    let [outputs, inputs] = deltas.architecture.shape(target);
    match (before, options.rank) {
        (None, None) => Ok(Delta::Dense(Tensor::zeros([outputs, inputs], (Kind::Float, device)))),
        (None, Some(rank)) if rank > outputs.min(inputs) => Err(Error::Config(format!(
            "rank is {rank}; {} is [{outputs}, {inputs}] and has at most rank {}",
            deltas.architecture.path(target),
            outputs.min(inputs)
        ))),
        (None, Some(rank)) => {
            let number =
                deltas.architecture.targets.keys().position(|&other| other == target).expect("a target of the model");
            Ok(Delta::LowRank {
                down: draw::start(options.seed, number as u64, [rank, inputs]).to_device(device),
                up: Tensor::zeros([outputs, rank], (Kind::Float, device)),
            })
        }
        // Any delta can be trained as a dense one.
        (Some(delta), None) => Ok(Delta::Dense(delta.dense())),
        (Some(delta), Some(rank)) if delta.rank() == Some(rank) => Ok(delta),
        (Some(delta), Some(rank)) => Err(Error::Config(format!(
            "rank is {rank}, but the deltas that are loaded are {}; train with the same rank, dense (rank=None), or \
             unload them first",
            delta.rank().map_or("dense".to_owned(), |rank| format!("of rank {rank}"))
        ))),
    }
}

/// Copies the numbers of `from` into the tensors of `to`, which must have the same targets and shapes.
///
/// # Errors
/// `Deltas` if they have not.
pub fn copy_into(from: &Deltas, to: &mut Deltas) -> Result<()> {
    let (new, old) = (from.tensors(), to.tensors());
    let shapes = |tensors: &std::collections::BTreeMap<String, Tensor>| -> Vec<(String, Vec<i64>)> {
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect()
    };
    if shapes(&new) != shapes(&old) {
        return Err(Error::Deltas("these deltas are of other layers, rank or shape than those being trained".into()));
    }
    for (target, delta) in &from.entries {
        let own = to.entries[target].tensors();
        for ((_, new), (_, old)) in delta.tensors().into_iter().zip(own) {
            // `copy_` takes the handle mutably; a second handle of the same memory leaves the leaf in place.
            tch::no_grad(|| old.shallow_clone().copy_(&new.detach()));
        }
    }
    Ok(())
}
