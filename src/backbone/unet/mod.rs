//! UNet2DConditionModel of Stable Diffusion 1.x and 2.x (Rombach et al. 2022, section 3.3).

mod blocks;
mod recompute;
mod resnet;
mod time;
mod transformer;

use tch::{Device, Kind, Tensor};

use self::blocks::{DownBlock, MidBlock, UpBlock};
use self::time::TimeEmbedding;
use self::transformer::Transformer;
use super::{Backbone, Batch, Boundaries, Hidden, Observation, Site, Taps, Wanted};
use crate::Result;
use crate::checkpoint::{Checkpoint, UNetConfig};
use crate::deltas::{Patch, Target};
use crate::nn::{Conv2d, GroupNorm};

/// The UNet: noised latents, timesteps and text vectors to maps and the predicted noise or velocity.
pub struct UNet {
    time: TimeEmbedding,
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: MidBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    sites: Vec<Site>,
    parameters: usize,
}

impl UNet {
    /// Reads the part `unet`.
    pub fn new(checkpoint: &Checkpoint, device: Device, kind: Kind) -> Result<Self> {
        let config: &UNetConfig = &checkpoint.unet;
        let weights = checkpoint.weights("unet", device, kind)?;
        let root = weights.root();
        let levels = config.block_channels.len();
        let first = config.block_channels[0];
        let mut sites = vec![];

        let time = TimeEmbedding::new(&(&root / "time_embedding"), config)?;
        let conv_in = Conv2d::new(&(&root / "conv_in"), config.in_channels, first, 3)?;
        let down = (0..levels)
            .map(|i| DownBlock::new(&(&(&root / "down_blocks") / i), config, i, &mut sites))
            .collect::<Result<_>>()?;
        let mid = MidBlock::new(&(&root / "mid_block"), config, &mut sites)?;
        let up = (0..levels)
            .map(|i| UpBlock::new(&(&(&root / "up_blocks") / i), config, i, &mut sites))
            .collect::<Result<_>>()?;
        let norm_out = GroupNorm::new(&(&root / "conv_norm_out"), config.norm_groups, first, config.norm_eps)?;
        let conv_out = Conv2d::new(&(&root / "conv_out"), first, config.out_channels, 3)?;
        weights.finish(|_| false)?;
        Ok(UNet { time, conv_in, down, mid, up, norm_out, conv_out, sites, parameters: weights.parameters_used() })
    }
}

/// What every block of one evaluation sees.
pub struct Pass<'a> {
    /// `[I, 4c]`
    time: Tensor,
    batch: &'a Batch<'a>,
    patch: Option<&'a Patch>,
}

/// One of the blocks, in forward order.
enum Block<'a> {
    Down(&'a DownBlock),
    Mid(&'a MidBlock),
    Up(&'a UpBlock),
}

impl<'a> Block<'a> {
    /// Whether anything is left to do.
    fn forward(&self, hidden: &mut Hidden, pass: &Pass, taps: &mut Taps) -> Result<bool> {
        match self {
            Block::Down(block) => block.forward(hidden, pass, taps),
            Block::Mid(block) => block.forward(hidden, pass, taps),
            Block::Up(block) => block.forward(hidden, pass, taps),
        }
    }

    fn transformers(&self) -> Vec<&'a Transformer> {
        match self {
            Block::Down(block) => block.transformers().collect(),
            Block::Mid(block) => block.transformers().collect(),
            Block::Up(block) => block.transformers().collect(),
        }
    }

    /// Number of hidden states that it takes back from the way down.
    fn takes(&self) -> usize {
        match self {
            Block::Up(block) => block.takes(),
            _ => 0,
        }
    }
}

impl UNet {
    fn blocks(&self) -> Vec<Block<'_>> {
        let down = self.down.iter().map(Block::Down);
        down.chain([Block::Mid(&self.mid)]).chain(self.up.iter().map(Block::Up)).collect()
    }

    fn pass<'a>(&self, batch: &'a Batch<'a>, patch: Option<&'a Patch>) -> Pass<'a> {
        Pass { time: self.time.forward(batch.timesteps(), batch.guidance(), batch.noised().kind()), batch, patch }
    }

    fn enter(&self, batch: &Batch) -> Hidden {
        let x = self.conv_in.forward(batch.noised());
        Hidden { skips: vec![x.shallow_clone()], x }
    }

    fn leave(&self, x: &Tensor, batch: &Batch) -> Tensor {
        // A network without cross-attention never met the rows.
        self.conv_out.forward(&self.norm_out.forward_silu(&batch.by_row(x)))
    }

    /// All blocks in order; `before` sees the hidden state that each one starts from.
    fn run(
        &self,
        batch: &Batch,
        patch: Option<&Patch>,
        wanted: &Wanted,
        mut before: impl FnMut(&Hidden),
    ) -> Result<Observation> {
        let mut taps = Taps::new(wanted);
        if taps.done() {
            return Ok(taps.finish(None));
        }
        let pass = self.pass(batch, patch);
        let mut hidden = self.enter(batch);
        for block in self.blocks() {
            before(&hidden);
            if !block.forward(&mut hidden, &pass, &mut taps)? {
                return Ok(taps.finish(None));
            }
        }
        before(&hidden);
        let prediction = self.leave(&hidden.x, batch);
        Ok(taps.finish(Some(prediction)))
    }
}

impl Backbone for UNet {
    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn weight(&self, target: Target) -> &Tensor {
        let transformer = self.blocks().into_iter().flat_map(|block| block.transformers()).nth(target.site);
        transformer.expect("a target lies at one of the sites").weight(target)
    }

    fn parameters(&self) -> usize {
        self.parameters
    }

    fn observe(&self, batch: &Batch, patch: Option<&Patch>, wanted: &Wanted) -> Result<Observation> {
        self.run(batch, patch, wanted, |_| ())
    }

    fn observe_keeping(
        &self,
        batch: &Batch,
        patch: Option<&Patch>,
        wanted: &Wanted,
    ) -> Result<(Observation, Boundaries)> {
        let mut boundaries = vec![];
        let seen = self.run(batch, patch, wanted, |hidden| boundaries.push(hidden.clone()))?;
        Ok((seen, Boundaries(boundaries)))
    }

    fn backward(
        &self,
        boundaries: Boundaries,
        batch: &Batch,
        patch: Option<&Patch>,
        wanted: &Wanted,
        gradient: &Observation,
    ) -> Result<()> {
        recompute::backward(self, boundaries, &self.pass(batch, patch), wanted, gradient)
    }
}
