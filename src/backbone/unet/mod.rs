//! UNet2DConditionModel of Stable Diffusion 1.x and 2.x (Rombach et al. 2022, section 3.3).

mod blocks;
mod resnet;
mod time;
mod transformer;

use tch::{Device, Kind, Tensor};

use self::blocks::{DownBlock, MidBlock, UpBlock};
use self::time::TimeEmbedding;
use super::{Backbone, Observation, Site, Taps, Wanted};
use crate::Result;
use crate::checkpoint::{Checkpoint, UNetConfig};
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

impl Backbone for UNet {
    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn parameters(&self) -> usize {
        self.parameters
    }

    fn observe(&self, noised: &Tensor, timesteps: &Tensor, text: &Tensor, wanted: &Wanted) -> Result<Observation> {
        let mut taps = Taps::new(wanted);
        if taps.done() {
            return Ok(taps.finish(None));
        }
        // 1 time
        let time = self.time.forward(timesteps, noised.kind());
        // 2 down, keeping every hidden state for the way up
        let mut x = self.conv_in.forward(noised);
        let mut skips = vec![x.shallow_clone()];
        for block in &self.down {
            let Some(y) = block.forward(x, &time, text, &mut skips, &mut taps)? else {
                return Ok(taps.finish(None));
            };
            x = y;
        }
        // 3 mid
        let Some(mut x) = self.mid.forward(x, &time, text, &mut taps)? else {
            return Ok(taps.finish(None));
        };
        // 4 up
        for block in &self.up {
            let Some(y) = block.forward(x, &time, text, &mut skips, &mut taps)? else {
                return Ok(taps.finish(None));
            };
            x = y;
        }
        // 5 out
        let prediction = self.conv_out.forward(&self.norm_out.forward(&x).silu());
        Ok(taps.finish(Some(prediction)))
    }
}
