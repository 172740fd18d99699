/// The three parts of a UNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Down,
    Mid,
    Up,
}

/// Where one cross-attention layer sits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub stage: Stage,
    /// Index of the block within its stage.
    pub block: usize,
    /// Index of the layer within its block.
    pub layer: usize,
    pub heads: i64,
    pub channels: i64,
}

impl Site {
    /// `down.0.1`, `mid.0`, `up.3.2`.
    pub fn name(&self) -> String {
        match self.stage {
            Stage::Down => format!("down.{}.{}", self.block, self.layer),
            Stage::Mid => format!("mid.{}", self.layer),
            Stage::Up => format!("up.{}.{}", self.block, self.layer),
        }
    }

    /// The checkpoint's key of the site's transformer block, as `down_blocks.0.attentions.1.transformer_blocks.0`.
    pub fn path(&self) -> String {
        let block = match self.stage {
            Stage::Down => format!("down_blocks.{}", self.block),
            Stage::Mid => "mid_block".to_owned(),
            Stage::Up => format!("up_blocks.{}", self.block),
        };
        format!("{block}.attentions.{}.transformer_blocks.0", self.layer)
    }
}
