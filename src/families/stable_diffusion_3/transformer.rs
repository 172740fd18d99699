//! SD3Transformer2DModel: an MM-DiT, a transformer of image and text tokens (Esser et al. 2024, section 4).

use std::ops::Range;

use tch::Tensor;

use super::TransformerConfig;
use super::block::{Block, chunks, modulate, norm};
use super::embedding::{PatchEmbedding, TimeTextEmbedding};
use crate::Result;
use crate::checkpoint::{Weight, Weights};
use crate::deltas::{Architecture, Patch, Target};
use crate::denoiser::{Batch, Denoiser, Pass, Recorder, State};
use crate::nn::Linear;

/// The key of the positions of image tokens, which are no parameters.
pub const POSITIONS: &str = "pos_embed.pos_embed";

/// The transformer, which computes attention maps and a prediction of velocity from noised latents, times and texts.
pub struct Transformer {
    patches: PatchEmbedding,
    embedding: TimeTextEmbedding,
    context: Linear,
    blocks: Vec<Block>,
    norm_out: Linear,
    proj_out: Linear,
    architecture: Architecture,
    /// The layer of each block; a block is a segment.
    segments: Vec<Range<usize>>,
    parameters: usize,
    patch_size: i64,
    max_positions: i64,
}

impl Transformer {
    /// Reads the network that a configuration describes; `positions` are those of image tokens.
    ///
    /// # Errors
    /// `Checkpoint`, naming the key, if a weight is missing, has another shape or is not used.
    pub fn new(weights: &Weights, positions: Weight, config: &TransformerConfig) -> Result<Self> {
        let root = weights.root();
        let width = config.width();
        let mut architecture = Architecture {
            layers: vec![],
            targets: Default::default(),
            text_width: config.joint_attention_dim,
            joint: true,
            network: "transformer",
        };
        let patches = PatchEmbedding::new(&(&root / "pos_embed"), positions, config)?;
        let embedding = TimeTextEmbedding::new(&(&root / "time_text_embed"), config)?;
        let context = Linear::new(&(&root / "context_embedder"), config.joint_attention_dim, width, true)?;
        let blocks = (0..config.layers)
            .map(|i| Block::new(&(&(&root / "transformer_blocks") / i), config, i, &mut architecture))
            .collect::<Result<Vec<_>>>()?;
        let norm_out = Linear::new(&(&root / "norm_out.linear"), width, 2 * width, true)?;
        let outputs = config.patch_size * config.patch_size * config.out_channels;
        let proj_out = Linear::new(&(&root / "proj_out"), width, outputs, true)?;
        weights.finish(|key| key == POSITIONS)?;
        Ok(Transformer {
            patches,
            embedding,
            context,
            segments: (0..blocks.len()).map(|i| i..i + 1).collect(),
            blocks,
            norm_out,
            proj_out,
            architecture,
            parameters: weights.parameters_used(),
            patch_size: config.patch_size,
            max_positions: config.max_positions,
        })
    }
}

impl Denoiser for Transformer {
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    fn weight(&self, target: Target) -> &Tensor {
        let projections = self.blocks[target.layer].projections(target.attention);
        projections.linear(target.projection).expect("a target is one of the architecture's").weight()
    }

    fn segments(&self) -> &[Range<usize>] {
        &self.segments
    }

    fn pass<'a>(&self, batch: &'a Batch<'a>, patch: Option<&'a Patch>) -> Pass<'a> {
        let of_times = self.embedding.of_times(batch.times(), batch.noised().kind());
        let embedding = batch.by_row(&of_times) + batch.of_pooled(|pooled| self.embedding.of_pooled(pooled));
        Pass { batch, patch, shared: vec![embedding.silu()] }
    }

    fn enter(&self, pass: &Pass) -> State {
        let image = pass.batch.by_row(&self.patches.forward(pass.batch.noised()));
        let text = pass.batch.of_context(|context| self.context.forward(context));
        State(vec![image, text])
    }

    fn segment(&self, index: usize, state: &mut State, pass: &Pass, recorder: &mut Recorder) -> Result<bool> {
        let [image, text] = &state.0[..] else { unreachable!("image and text tokens enter every block") };
        let Some((image, text)) = self.blocks[index].forward(image, text, &pass.shared[0], pass, recorder)? else {
            return Ok(false);
        };
        state.0 = std::iter::once(image).chain(text).collect();
        Ok(true)
    }

    fn leave(&self, state: &State, pass: &Pass) -> Tensor {
        let modulation = chunks(&self.norm_out, &pass.shared[0]);
        // Here the scale comes first.
        let x = self.proj_out.forward(&modulate(&norm(&state.0[0]), &modulation[1], &modulation[0]));
        let size = pass.batch.noised().size();
        let (height, width, patch) = (size[2] / self.patch_size, size[3] / self.patch_size, self.patch_size);
        let patches = x.view([x.size()[0], height, width, patch, patch, -1]).permute([0, 5, 1, 3, 2, 4]);
        patches.reshape([x.size()[0], -1, size[2], size[3]])
    }

    fn parameters(&self) -> usize {
        self.parameters
    }

    fn patch_size(&self) -> i64 {
        self.patch_size
    }

    fn largest_side(&self) -> Option<i64> {
        Some(self.max_positions * self.patch_size)
    }
}
