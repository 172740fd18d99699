//! UNet2DConditionModel of Stable Diffusion 1.x, 2.x and XL (Rombach et al. 2022, section 3.3; Podell et al. 2023,
//! section 2).

use std::ops::Range;

use tch::Tensor;

use super::UNetConfig;
use super::blocks::{DownBlock, HiddenStates, MidBlock, UpBlock};
use super::time::{AddedEmbedding, TimeEmbedding};
use super::transformer::TransformerBlock;
use crate::Result;
use crate::checkpoint::Weights;
use crate::deltas::{Architecture, Patch, Target};
use crate::denoiser::{Batch, Denoiser, Pass, Recorder, State};
use crate::nn::{Conv2d, GroupNorm};

/// The UNet, which computes attention maps and a prediction of noise or velocity from noised latents, times and text
/// vectors.
pub struct UNet {
    time: TimeEmbedding,
    added: Option<AddedEmbedding>,
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: MidBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    architecture: Architecture,
    /// The layers of each block; a block is a segment.
    segments: Vec<Range<usize>>,
    parameters: usize,
}

impl UNet {
    /// Reads the network that a configuration describes.
    ///
    /// # Errors
    /// `Checkpoint`, naming the key, if a weight is missing, has another shape or is not used.
    pub fn new(weights: &Weights, config: &UNetConfig) -> Result<Self> {
        let root = weights.root();
        let levels = config.block_channels.len();
        let first = config.block_channels[0];
        let mut architecture = Architecture {
            layers: vec![],
            targets: Default::default(),
            text_width: config.cross_attention_dim,
            joint: false,
            network: "unet",
        };

        let time = TimeEmbedding::new(&(&root / "time_embedding"), config)?;
        let added = match config.added {
            None => None,
            Some(added) => Some(AddedEmbedding::new(&(&root / "add_embedding"), config, added)?),
        };
        let conv_in = Conv2d::new(&(&root / "conv_in"), config.in_channels, first, 3)?;
        let down = (0..levels)
            .map(|i| DownBlock::new(&(&(&root / "down_blocks") / i), config, i, &mut architecture))
            .collect::<Result<Vec<_>>>()?;
        let mid = MidBlock::new(&(&root / "mid_block"), config, &mut architecture)?;
        let up = (0..levels)
            .map(|i| UpBlock::new(&(&(&root / "up_blocks") / i), config, i, &mut architecture))
            .collect::<Result<Vec<_>>>()?;
        let norm_out = GroupNorm::new(&(&root / "conv_norm_out"), config.norm_groups, first, config.norm_eps)?;
        let conv_out = Conv2d::new(&(&root / "conv_out"), first, config.out_channels, 3)?;
        weights.finish(|_| false)?;
        let parameters = weights.parameters_used();
        let down_counts = down.iter().map(|block| block.transformer_blocks().count());
        let counts = down_counts.chain([mid.transformer_blocks().count()]);
        let segments = (counts.chain(up.iter().map(|block| block.transformer_blocks().count())))
            .scan(0, |end, count| {
                *end += count;
                Some(*end - count..*end)
            })
            .collect();
        Ok(UNet { time, added, conv_in, down, mid, up, norm_out, conv_out, architecture, segments, parameters })
    }

    /// The blocks of all transformers, in forward order.
    fn transformer_blocks(&self) -> impl Iterator<Item = &TransformerBlock> {
        let down = self.down.iter().flat_map(|block| block.transformer_blocks());
        let up = self.up.iter().flat_map(|block| block.transformer_blocks());
        down.chain(self.mid.transformer_blocks()).chain(up)
    }
}

impl Denoiser for UNet {
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    fn weight(&self, target: Target) -> &Tensor {
        let mut blocks = self.transformer_blocks();
        let block = blocks.find(|block| block.layer() == target.layer).expect("a target is one of the architecture's");
        block.attention(target.attention).weight(target.projection)
    }

    fn segments(&self) -> &[Range<usize>] {
        &self.segments
    }

    fn pass<'a>(&self, batch: &'a Batch<'a>, patch: Option<&'a Patch>) -> Pass<'a> {
        let conditions = batch.conditions();
        let time = self.time.forward(batch.times(), conditions.guidance, batch.noised().kind());
        let time = match &self.added {
            None => time,
            // The embedding depends on the text, so that it and all that follows have one entry per row.
            Some(added) => batch.by_row(&time) + batch.of_pooled(|pooled| added.forward(pooled, conditions)),
        };
        Pass { batch, patch, shared: vec![time] }
    }

    fn enter(&self, pass: &Pass) -> State {
        let x = self.conv_in.forward(pass.batch.noised());
        let x = if self.added.is_some() { pass.batch.by_row(&x) } else { x };
        let skip = x.shallow_clone();
        State(vec![x, skip])
    }

    fn segment(&self, index: usize, state: &mut State, pass: &Pass, recorder: &mut Recorder) -> Result<bool> {
        let mut skips = state.0.split_off(1);
        let hidden = &mut HiddenStates { x: &mut state.0[0], skips: &mut skips };
        let levels = self.down.len();
        let more = match index {
            _ if index < levels => self.down[index].forward(hidden, pass, recorder)?,
            _ if index == levels => self.mid.forward(hidden, pass, recorder)?,
            _ => self.up[index - levels - 1].forward(hidden, pass, recorder)?,
        };
        state.0.extend(skips);
        Ok(more)
    }

    fn leave(&self, state: &State, pass: &Pass) -> Tensor {
        // Without any cross-attention, the state still has one entry per latent.
        self.conv_out.forward(&self.norm_out.forward_silu(&pass.batch.by_row(&state.0[0])))
    }

    fn parameters(&self) -> usize {
        self.parameters
    }

    fn reads_guidance(&self) -> bool {
        self.time.reads_guidance()
    }

    fn reads_sizes(&self) -> bool {
        self.added.is_some()
    }
}
