//! The weights that deltas can be added to, and the attention layers of a denoiser.

use std::collections::BTreeMap;

/// One cross-attention layer of a denoiser, or the part of a joint attention in which image tokens attend to text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionLayer {
    /// The name that users write: `down.0.1`, `mid.0`, `up.3.2`.
    pub name: String,
    /// The part of the network that it belongs to: `down`, `mid`, `up`. The option `layers` may name it.
    pub group: String,
    /// Index of its block within the group; `layers="last_blocks"` selects the last block of every group.
    pub block: usize,
    /// `H`, number of heads.
    pub heads: i64,
    /// Width of the image tokens, all heads together.
    pub channels: i64,
}

/// One of the two attentions of a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttentionKind {
    /// Self-attention: image tokens attend to each other.
    Itself,
    /// Cross-attention: image tokens attend to the text.
    Cross,
}

/// One of the four projections of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// `W_q`, of image tokens to queries.
    Query,
    /// `W_k`, of image tokens or text vectors to keys.
    Key,
    /// `W_v`, of image tokens or text vectors to values.
    Value,
    /// `W_out`, of all heads' outputs to image tokens.
    Out,
}

/// One weight matrix that a delta can be added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Index of the cross-attention layer in forward order; its self-attention is that of the same transformer block.
    pub layer: usize,
    /// The attention of the block.
    pub attention: AttentionKind,
    /// The projection of the attention.
    pub projection: Projection,
}

impl AttentionKind {
    /// Both attentions, in forward order.
    pub const ALL: [AttentionKind; 2] = [AttentionKind::Itself, AttentionKind::Cross];

    /// The name that users see.
    pub fn name(self) -> &'static str {
        match self {
            AttentionKind::Itself => "self",
            AttentionKind::Cross => "cross",
        }
    }
}

impl Projection {
    /// All projections, in the order in which [`Changes`](super::Changes) lists them.
    pub const ALL: [Projection; 4] = [Projection::Query, Projection::Key, Projection::Value, Projection::Out];

    /// The name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Projection::Query => "q",
            Projection::Key => "k",
            Projection::Value => "v",
            Projection::Out => "out",
        }
    }
}

/// The module path and the shape of a target's weight in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetWeight {
    /// The module path, as `down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k`.
    pub path: String,
    /// `[out, in]`
    pub shape: [i64; 2],
}

/// The attention layers of a denoiser, which deltas must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// The cross-attention layers, in forward order.
    pub layers: Vec<AttentionLayer>,
    /// The weights that deltas can be added to, in forward order.
    pub targets: BTreeMap<Target, TargetWeight>,
    /// `D`, width of the text vectors.
    pub text_width: i64,
    /// Whether attention is joint: image tokens attend to image tokens too, within the same softmax, so that the rows of
    /// a map of probabilities have sums below 1.
    pub joint: bool,
    /// The name of the network in LoRA files: `unet`, `transformer`.
    pub network: &'static str,
}

impl Architecture {
    /// The module path of a target.
    pub fn path(&self, target: Target) -> &str {
        &self.weight(target).path
    }

    /// `[out, in]` of the weight.
    pub fn shape(&self, target: Target) -> [i64; 2] {
        self.weight(target).shape
    }

    /// The target of a module path, if it is one.
    pub fn find(&self, path: &str) -> Option<Target> {
        self.targets.iter().find(|(_, weight)| weight.path == path).map(|(&target, _)| target)
    }

    /// A description on one line. Two architectures have the same one exactly if deltas of one fit the other.
    pub fn describe(&self) -> String {
        let layers: Vec<String> =
            self.layers.iter().map(|layer| format!("{}={}", layer.name, layer.channels)).collect();
        format!("text={};{}", self.text_width, layers.join(";"))
    }

    fn weight(&self, target: Target) -> &TargetWeight {
        self.targets.get(&target).expect("a target is one of the architecture's")
    }
}
