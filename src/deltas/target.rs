use std::collections::BTreeMap;

/// One cross-attention layer of a denoiser, or the part of a joint attention that is one: image tokens attend to text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionLayer {
    /// As users write it: `down.0.1`, `mid.0`, `up.3.2`.
    pub name: String,
    /// The part of the network that it belongs to, which `layers` may name: `down`, `mid`, `up`.
    pub group: String,
    /// Index of its block within the group; `layers="last_blocks"` takes the last block of every group.
    pub block: usize,
    pub heads: i64,
    /// Width of the image tokens, all heads together.
    pub channels: i64,
}

/// Which attention of a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttentionKind {
    /// Of image tokens to each other.
    Itself,
    /// Of image tokens to the text.
    Cross,
}

/// Which projection of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    Query,
    Key,
    Value,
    Out,
}

/// One weight matrix that a delta can be added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Index of the layer in forward order.
    pub layer: usize,
    pub attention: AttentionKind,
    pub projection: Projection,
}

impl AttentionKind {
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

/// Where the weight of a target lies in a checkpoint, and its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetWeight {
    /// The module, as `down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k`.
    pub path: String,
    /// `[out, in]`
    pub shape: [i64; 2],
}

/// What deltas have to fit: the attention layers of a denoiser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// In forward order.
    pub layers: Vec<AttentionLayer>,
    /// In forward order.
    pub targets: BTreeMap<Target, TargetWeight>,
    /// `D`, width of the text vectors.
    pub text_width: i64,
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

    /// The target of a module path.
    pub fn find(&self, path: &str) -> Option<Target> {
        self.targets.iter().find(|(_, weight)| weight.path == path).map(|(&target, _)| target)
    }

    /// One line that two architectures share exactly if deltas of one fit the other.
    pub fn describe(&self) -> String {
        let layers: Vec<String> =
            self.layers.iter().map(|layer| format!("{}={}", layer.name, layer.channels)).collect();
        format!("text={};{}", self.text_width, layers.join(";"))
    }

    fn weight(&self, target: Target) -> &TargetWeight {
        self.targets.get(&target).expect("a target is one of the architecture's")
    }
}
