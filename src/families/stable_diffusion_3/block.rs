//! The blocks of the transformer (Esser et al. 2024, section 4).

use tch::Tensor;

use super::TransformerConfig;
use super::attention::{Projections, key};
use crate::Result;
use crate::checkpoint::Scope;
use crate::deltas::{Architecture, AttentionKind, AttentionLayer, Projection, Target, TargetWeight};
use crate::denoiser::{ImageTokens, Pass, Recorder, TextTokens, joint_attention};
use crate::nn::{Linear, attention};
use crate::runtime::check_interrupt;

/// `ε` of the layer norms.
const EPS: f64 = 1e-6;

/// Joint attention of image and text tokens and a feed-forward of each, modulated by the embedding of time and pooled
/// text. In some blocks image tokens attend to each other a second time.
pub struct Block {
    norm1: Linear,
    norm1_context: Linear,
    image: Projections,
    text: Projections,
    dual: Option<Projections>,
    feed: FeedForward,
    /// Absent in the last block, whose text tokens are not used further.
    feed_context: Option<FeedForward>,
    /// Index of its attention layer.
    layer: usize,
}

impl Block {
    /// Reads the block of an index, and adds its attention layer to `architecture`.
    pub fn new(
        weights: &Scope,
        config: &TransformerConfig,
        index: usize,
        architecture: &mut Architecture,
    ) -> Result<Self> {
        let width = config.width();
        let attention = weights / "attn";
        let (last, dual) = (index + 1 == config.layers, config.dual_attention_layers.contains(&index));
        let modulation =
            |name: &str, parts: i64| Linear::new(&(&(weights / name) / "linear"), width, parts * width, true);
        let projections = |weights: &Scope, of, output| Projections::new(weights, of, config, output);
        let block = Block {
            norm1: modulation("norm1", if dual { 9 } else { 6 })?,
            norm1_context: modulation("norm1_context", if last { 2 } else { 6 })?,
            image: projections(&attention, AttentionKind::Itself, true)?,
            text: projections(&attention, AttentionKind::Cross, !last)?,
            dual: match dual {
                true => Some(projections(&(weights / "attn2"), AttentionKind::Itself, true)?),
                false => None,
            },
            feed: FeedForward::new(&(weights / "ff"), width)?,
            feed_context: if last { None } else { Some(FeedForward::new(&(weights / "ff_context"), width)?) },
            layer: index,
        };
        architecture.layers.push(AttentionLayer {
            name: format!("block.{index}"),
            group: "block".to_owned(),
            block: index,
            heads: config.heads,
            channels: width,
        });
        for of in AttentionKind::ALL {
            let read = |projection: &Projection| block.projections(of).linear(*projection).is_some();
            for projection in Projection::ALL.into_iter().filter(read) {
                let target = Target { layer: index, attention: of, projection };
                let path = attention.key(key(of, projection));
                architecture.targets.insert(target, TargetWeight { path, shape: [width, width] });
            }
        }
        Ok(block)
    }

    /// The projections of image tokens ([`AttentionKind::Itself`]) or of text tokens.
    pub fn projections(&self, of: AttentionKind) -> &Projections {
        match of {
            AttentionKind::Itself => &self.image,
            AttentionKind::Cross => &self.text,
        }
    }

    /// Image tokens `[B, n, c]` and text tokens `[B, m, c]` to the same, without the text tokens in the last block;
    /// `None` if nothing more is wanted. `embedding` `[B, c]` is that of time and pooled text, after its activation.
    pub fn forward(
        &self,
        image: &Tensor,
        text: &Tensor,
        embedding: &Tensor,
        pass: &Pass,
        recorder: &mut Recorder,
    ) -> Result<Option<(Tensor, Option<Tensor>)>> {
        check_interrupt()?;
        let changes = |of| pass.patch.and_then(|patch| patch.of(self.layer, of));
        let [of_image, of_text] = AttentionKind::ALL.map(changes);
        let normed = norm(image);
        let (modulation, context) = (chunks(&self.norm1, embedding), chunks(&self.norm1_context, embedding));
        let x = modulate(&normed, &modulation[0], &modulation[1]);
        let y = match context.len() {
            // Here the scale comes first.
            2 => modulate(&norm(text), &context[1], &context[0]),
            _ => modulate(&norm(text), &context[0], &context[1]),
        };
        let [q, k, v] = [Projection::Query, Projection::Key, Projection::Value];
        let of_image_tokens = ImageTokens {
            q: self.image.heads(q, &x, of_image),
            k: self.image.heads(k, &x, of_image),
            v: self.image.heads(v, &x, of_image),
        };
        let of_text_tokens = TextTokens {
            q: self.feed_context.as_ref().map(|_| self.text.heads(q, &y, of_text)),
            k: self.text.heads(k, &y, of_text),
            v: self.text.heads(v, &y, of_text),
        };
        let attended = joint_attention(&of_image_tokens, &of_text_tokens, self.layer, recorder);
        let Some((attended, attended_text)) = attended else { return Ok(None) };

        let mut image = image.addcmul(&modulation[2], &self.image.output(&attended, of_image));
        if let Some(dual) = &self.dual {
            let x = modulate(&normed, &modulation[6], &modulation[7]);
            let of_x = |projection| dual.heads(projection, &x, None).transpose(1, 2);
            let (q, k, v) = (of_x(q), of_x(k), of_x(v));
            let y = attention(&q, &k, &v);
            image = image.addcmul(&modulation[8], &dual.output(&y.transpose(1, 2).flatten(2, 3), None));
        }
        let image = self.feed.residual(&image, &modulation[3..6]);
        let text = attended_text.zip(self.feed_context.as_ref()).map(|(attended, feed)| {
            let text = text.addcmul(&context[2], &self.text.output(&attended, of_text));
            feed.residual(&text, &context[3..6])
        });
        Ok(Some((image, text)))
    }
}

struct FeedForward {
    wide: Linear,
    out: Linear,
}

impl FeedForward {
    fn new(weights: &Scope, width: i64) -> Result<Self> {
        Ok(FeedForward {
            wide: Linear::new(&(weights / "net.0.proj"), width, 4 * width, true)?,
            out: Linear::new(&(weights / "net.2"), 4 * width, width, true)?,
        })
    }

    /// `x + gate · f(norm(x))`; `modulation` are shift, scale and gate.
    fn residual(&self, x: &Tensor, modulation: &[Tensor]) -> Tensor {
        let y = modulate(&norm(x), &modulation[0], &modulation[1]);
        x.addcmul(&modulation[2], &self.out.forward(&self.wide.forward(&y).gelu("tanh")))
    }
}

/// The parts `[B, 1, c]` that a linear layer makes of an embedding `[B, c]`.
pub fn chunks(linear: &Linear, embedding: &Tensor) -> Vec<Tensor> {
    let width = embedding.size()[1];
    linear.forward(embedding).unsqueeze(1).split(width, -1)
}

/// Normalisation over the last axis without weights.
pub fn norm(x: &Tensor) -> Tensor {
    x.layer_norm::<Tensor>([x.size()[2]], None, None, EPS, true)
}

/// `x (1 + scale) + shift`
pub fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
    shift.addcmul(x, &(scale + 1.0))
}
