//! Which layers count, and which of their heads.

use serde_json::{Value, json};

use super::rules::{Outcome, Rule};

/// Which cross-attention layers count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layers {
    /// Every layer.
    All,
    /// A part of the network, such as `down`, `mid` and `up` of a UNet.
    Group(String),
    /// The last attention block of each stage: what the authors' released code pools.
    LastBlocks,
    /// The last `n` in forward order.
    Last(usize),
    /// By name.
    Named(Vec<String>),
}

/// The groups that layers of any family are in: parts of a UNet, the blocks of a transformer. Whether a model has such a
/// group is checked on the model.
pub const GROUPS: [&str; 4] = ["down", "mid", "up", "block"];

/// The rule of an option of [`Layers`].
pub fn layers() -> Rule<Layers> {
    const EXPECTED: &str = "all, last_blocks, last(n), a group of layers such as down, mid or up, or a list of layers such as [\"down.0.1\", \"mid.0\"]";
    let write = |layers: &Layers| match layers {
        Layers::All => json!("all"),
        Layers::Group(group) => json!(group),
        Layers::LastBlocks => json!("last_blocks"),
        Layers::Last(n) => json!(format!("last({n})")),
        Layers::Named(names) => json!(names),
    };
    Rule::new("choice_or_names", EXPECTED, read_layers, write)
        .choices(&["all", "down", "mid", "up", "block", "last_blocks", "last(n)"])
        .check(|layers| match layers {
            Layers::Named(names) => each_once(names, |name| format!("names {name:?} twice")),
            _ => Ok(()),
        })
}

fn read_layers(value: &Value) -> Option<Layers> {
    if let Some(list) = value.as_array() {
        let names: Option<Vec<String>> = list.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        return names.filter(|names| !names.is_empty()).map(Layers::Named);
    }
    match value.as_str()? {
        "all" => Some(Layers::All),
        "last_blocks" => Some(Layers::LastBlocks),
        name if GROUPS.contains(&name) => Some(Layers::Group(name.to_owned())),
        name => {
            let count = name.strip_prefix("last(")?.strip_suffix(')')?.parse().ok();
            count.filter(|&n| n > 0).map(Layers::Last)
        }
    }
}

/// How the heads of a layer are averaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heads {
    /// The plain mean.
    Mean,
    /// Weighed by what changes the score (Eq. 7).
    Attributed,
    /// Weighed as the deltas in use have learned.
    Learned,
    /// The plain mean of some.
    Subset(Vec<usize>),
}

/// The rule of an option of [`Heads`].
pub fn heads() -> Rule<Heads> {
    let read = |value: &Value| match (value.as_str(), value.as_array()) {
        (Some("mean"), _) => Some(Heads::Mean),
        (Some("attributed"), _) => Some(Heads::Attributed),
        (Some("learned"), _) => Some(Heads::Learned),
        (_, Some(list)) if !list.is_empty() => {
            let heads: Option<Vec<usize>> = list.iter().map(|head| head.as_u64().map(|head| head as usize)).collect();
            heads.map(Heads::Subset)
        }
        _ => None,
    };
    let write = |heads: &Heads| match heads {
        Heads::Mean => json!("mean"),
        Heads::Attributed => json!("attributed"),
        Heads::Learned => json!("learned"),
        Heads::Subset(heads) => json!(heads),
    };
    let expected = "mean, attributed, learned, or a list of head indices such as [0, 2]";
    Rule::new("choice_or_indices", expected, read, write).choices(&["mean", "attributed", "learned"]).check(|heads| {
        match heads {
            Heads::Subset(heads) => each_once(heads, |head| format!("lists {head} twice")),
            _ => Ok(()),
        }
    })
}

fn each_once<T: PartialEq>(list: &[T], fault: impl FnOnce(&T) -> String) -> Outcome<()> {
    match (1..list.len()).find(|&i| list[..i].contains(&list[i])) {
        Some(twice) => Err(Some(fault(&list[twice]))),
        None => Ok(()),
    }
}
