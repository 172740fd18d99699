use crate::checkpoint::Site;

/// Which attention of a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attention {
    /// `attn1`, of image tokens to each other.
    Itself,
    /// `attn2`, of image tokens to the text.
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
    /// Index of the site in forward order.
    pub site: usize,
    pub attention: Attention,
    pub projection: Projection,
}

impl Attention {
    pub const ALL: [Attention; 2] = [Attention::Itself, Attention::Cross];

    /// The name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Attention::Itself => "self",
            Attention::Cross => "cross",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Attention::Itself => "attn1",
            Attention::Cross => "attn2",
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

    fn key(self) -> &'static str {
        match self {
            Projection::Query => "to_q",
            Projection::Key => "to_k",
            Projection::Value => "to_v",
            Projection::Out => "to_out.0",
        }
    }
}

/// What deltas have to fit: the attention layers of a UNet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    pub sites: Vec<Site>,
    /// `D`, width of the text vectors.
    pub text_width: i64,
}

impl Architecture {
    /// The module path of a target, as `down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k`.
    pub fn path(&self, target: Target) -> String {
        format!("{}.{}.{}", self.sites[target.site].path(), target.attention.key(), target.projection.key())
    }

    /// `[out, in]` of the weight.
    pub fn shape(&self, target: Target) -> [i64; 2] {
        let channels = self.sites[target.site].channels;
        let reads_text = matches!(target.projection, Projection::Key | Projection::Value);
        let inputs = if target.attention == Attention::Cross && reads_text { self.text_width } else { channels };
        [channels, inputs]
    }

    /// The target of a module path.
    pub fn find(&self, path: &str) -> Option<Target> {
        self.targets().find(|&target| self.path(target) == path)
    }

    /// Every target, in forward order.
    pub fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        let of_site = |site| {
            let of_attention =
                move |attention| Projection::ALL.map(|projection| Target { site, attention, projection });
            Attention::ALL.into_iter().flat_map(of_attention)
        };
        (0..self.sites.len()).flat_map(of_site)
    }

    /// One line that two architectures share exactly if deltas of one fit the other.
    pub fn describe(&self) -> String {
        let site = |site: &Site| format!("{}={}", site.name(), site.channels);
        let sites: Vec<String> = self.sites.iter().map(site).collect();
        format!("text={};{}", self.text_width, sites.join(";"))
    }
}
