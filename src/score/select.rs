//! Options that name layers and heads, resolved for a model.

use crate::config::{Heads, Layers};
use crate::deltas::AttentionLayer;
use crate::{Error, Result};

/// For each layer of `all`, whether `layers` selects it.
///
/// # Errors
/// `Config` if a name, a group or a number does not exist in this model, or nothing is selected.
pub fn layers(all: &[AttentionLayer], layers: &Layers) -> Result<Vec<bool>> {
    let last = |group: &str| all.iter().filter(|layer| layer.group == group).map(|layer| layer.block).max();
    let of_group = |group: &str| all.iter().map(|layer| layer.group == group).collect::<Vec<bool>>();
    let chosen: Vec<bool> = match layers {
        Layers::All => vec![true; all.len()],
        Layers::Group(group) => {
            let chosen = of_group(group);
            if !chosen.contains(&true) {
                let mut known: Vec<&str> = all.iter().map(|layer| layer.group.as_str()).collect();
                known.dedup();
                return Err(Error::Config(format!(
                    "layers is {group:?}; this model's groups of layers are {}",
                    known.join(", ")
                )));
            }
            chosen
        }
        Layers::LastBlocks => all.iter().map(|layer| Some(layer.block) == last(&layer.group)).collect(),
        Layers::Last(n) if *n > all.len() => {
            return Err(Error::Config(format!(
                "layers is last({n}); this model has {} cross-attention layers",
                all.len()
            )));
        }
        Layers::Last(n) => (0..all.len()).map(|i| i + n >= all.len()).collect(),
        Layers::Named(names) => {
            let known: Vec<&str> = all.iter().map(|layer| layer.name.as_str()).collect();
            if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
                return Err(Error::Config(format!("layers names {unknown:?}; this model has {}", known.join(", "))));
            }
            all.iter().map(|layer| names.contains(&layer.name)).collect()
        }
    };
    if !chosen.contains(&true) {
        return Err(Error::Config(format!("layers is {layers:?}, which is no cross-attention layer of this model")));
    }
    Ok(chosen)
}

/// Refuses a head index that one of the chosen layers lacks.
///
/// # Errors
/// `Config`, naming the head and the layer.
pub fn check_heads(all: &[AttentionLayer], chosen: &[bool], heads: &Heads) -> Result<()> {
    let Heads::Subset(heads) = heads else {
        return Ok(());
    };
    for (layer, _) in all.iter().zip(chosen).filter(|(_, chosen)| **chosen) {
        if let Some(head) = heads.iter().find(|&&head| head as i64 >= layer.heads) {
            return Err(Error::Config(format!(
                "heads lists {head}, but {} has the heads 0 to {}; choose other heads, or layers that have them",
                layer.name,
                layer.heads - 1
            )));
        }
    }
    Ok(())
}
