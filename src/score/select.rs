use crate::backbone::{Site, Stage};
use crate::config::{Heads, Layers};
use crate::{Error, Result};

/// By site index, whether the site counts.
pub fn sites(all: &[Site], layers: &Layers) -> Result<Vec<bool>> {
    let last = |stage: Stage| all.iter().filter(|site| site.stage == stage).map(|site| site.block).max();
    let chosen: Vec<bool> = match layers {
        Layers::All => vec![true; all.len()],
        Layers::Down => all.iter().map(|site| site.stage == Stage::Down).collect(),
        Layers::Mid => all.iter().map(|site| site.stage == Stage::Mid).collect(),
        Layers::Up => all.iter().map(|site| site.stage == Stage::Up).collect(),
        Layers::LastBlocks => all.iter().map(|site| Some(site.block) == last(site.stage)).collect(),
        Layers::Last(n) if *n > all.len() => {
            return Err(Error::Config(format!(
                "layers is last({n}); this model has {} cross-attention layers",
                all.len()
            )));
        }
        Layers::Last(n) => (0..all.len()).map(|i| i + n >= all.len()).collect(),
        Layers::Sites(names) => {
            let known: Vec<String> = all.iter().map(Site::name).collect();
            if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
                return Err(Error::Config(format!("layers names {unknown:?}; this model has {}", known.join(", "))));
            }
            known.iter().map(|name| names.contains(name)).collect()
        }
    };
    if !chosen.contains(&true) {
        return Err(Error::Config(format!("layers is {layers:?}, which is no cross-attention layer of this model")));
    }
    Ok(chosen)
}

/// Refuses a head index that one of the chosen sites lacks.
pub fn check_heads(all: &[Site], chosen: &[bool], heads: &Heads) -> Result<()> {
    let Heads::Subset(heads) = heads else {
        return Ok(());
    };
    for (site, _) in all.iter().zip(chosen).filter(|(_, chosen)| **chosen) {
        if let Some(head) = heads.iter().find(|&&head| head as i64 >= site.heads) {
            return Err(Error::Config(format!(
                "heads lists {head}, but {} has the heads 0 to {}; choose other heads, or layers that have them",
                site.name(),
                site.heads - 1
            )));
        }
    }
    Ok(())
}
