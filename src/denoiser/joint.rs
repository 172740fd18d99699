//! Joint attention: image and text tokens attend to each other and to themselves, with one softmax over all keys (Esser
//! et al. 2024, section 4). Its map is the block of the image's rows and the text's columns.

use tch::{Kind, Tensor};

use super::{MapKind, Recorder};
use crate::kernels;
use crate::nn::{attention, scale, scores, unit};
use crate::pooling::{Qkv, attend, attend_part, attend_with_lse};

/// Queries, keys and values of image tokens, `[B, n, H, d]`.
pub struct ImageTokens {
    /// Queries.
    pub q: Tensor,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
}

/// Queries, keys and values of text tokens, `[B, m, H, d]`.
pub struct TextTokens {
    /// Queries; `None` if the attention's output for text tokens is not used.
    pub q: Option<Tensor>,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
}

/// The outputs for image tokens, and for text tokens if they have queries.
type Outputs = (Tensor, Option<Tensor>);

/// The outputs of a joint attention for image tokens `[B, n, H·d]` and for text tokens `[B, m, H·d]`, if these have
/// queries. It gives `recorder` the map of `layer` if that is wanted, and returns `None` if nothing else is.
///
/// A map of probabilities has the text's columns of the softmax over all keys, so that a row's sum is the share of the
/// text in the row's attention.
pub fn joint_attention(
    image: &ImageTokens,
    text: &TextTokens,
    layer: usize,
    recorder: &mut Recorder,
) -> Option<Outputs> {
    let joint = Joint { q: heads(&image.q), image, text, layer };
    let Some(map) = recorder.wants(layer) else { return Some(joint.outputs(&joint.attended())) };
    match joint.pooled(map, recorder) {
        Pooled::Not => joint.with_map(map, recorder),
        Pooled::Recorded(attended) if !recorder.done() => {
            Some(joint.outputs(&attended.unwrap_or_else(|| joint.attended())))
        }
        Pooled::Recorded(_) => None,
    }
}

/// A joint attention.
struct Joint<'a> {
    /// The image's queries, split into heads, `[B, H, n, d]`.
    q: Tensor,
    image: &'a ImageTokens,
    text: &'a TextTokens,
    layer: usize,
}

/// Whether a map was pooled without being materialised.
enum Pooled {
    Not,
    /// It was, and the attention of [`Joint::queries`] may have been computed for it.
    Recorded(Option<Tensor>),
}

impl Joint<'_> {
    fn pooled(&self, map: MapKind, recorder: &mut Recorder) -> Pooled {
        let Some(how) = recorder.pools() else { return Pooled::Not };
        let (q, k) = (&self.q, &heads(&self.text.k));
        if map != MapKind::Probs {
            // None of the others depends on the image's keys.
            let Some((pooled, _)) = attend(Qkv { q, k, v: None }, scale(q), map, &how) else { return Pooled::Not };
            recorder.record_pooled(self.layer, &pooled);
            return Pooled::Recorded(None);
        }
        if !kernels::allowed() {
            return Pooled::Not;
        }
        let [keys, values] = self.keys_and_values();
        let (attended, sums) = attend_with_lse(&self.queries(!recorder.ends_here()), &keys, &values);
        let sums = sums.narrow(2, 0, q.size()[2]);
        match attend_part(q, k, &sums, &how) {
            Some(pooled) => recorder.record_pooled(self.layer, &pooled),
            None => drop(recorder.record(self.layer, (scores(q, k, scale(q)) - sums.unsqueeze(-1)).exp())),
        }
        Pooled::Recorded(Some(attended))
    }

    /// The outputs with the map materialised. What image tokens take from the image is computed by fused attention.
    fn with_map(&self, map: MapKind, recorder: &mut Recorder) -> Option<Outputs> {
        let (q, k) = (&self.q, &heads(&self.text.k));
        let scores = scores(q, k, scale(q));
        let scores = match map {
            MapKind::Logits => recorder.record(self.layer, scores),
            MapKind::Cosine => {
                // The network continues with probabilities; cosines are recorded only.
                let _ = recorder.record(self.layer, unit(q).matmul(&unit(k).transpose(-1, -2)));
                scores
            }
            MapKind::Probs | MapKind::TextProbs => scores,
        };
        if recorder.done() {
            return None;
        }
        let (of_image, image_sum) = attend_with_lse(q, &heads(&self.image.k), &heads(&self.image.v));
        let (image_sum, text_sum) = (image_sum.unsqueeze(-1), scores.logsumexp(-1, true));
        let sum = image_sum.logaddexp(&text_sum);
        let block = match map {
            MapKind::Probs => recorder.record(self.layer, (&scores - &sum).exp()),
            MapKind::TextProbs => recorder.record(self.layer, (&scores - &text_sum).exp()) * (&text_sum - &sum).exp(),
            MapKind::Logits | MapKind::Cosine => (&scores - &sum).exp(),
        };
        if recorder.done() {
            return None;
        }
        let v = heads(&self.text.v);
        let of_text = block.to_kind(v.kind()).matmul(&v).to_kind(Kind::Float);
        let output = of_image.to_kind(Kind::Float) * (image_sum - sum).exp() + of_text;
        let for_text = self.text.q.as_ref().map(|q| {
            let [keys, values] = self.keys_and_values();
            merge(&attention(&heads(q), &keys, &values))
        });
        Some((merge(&output.to_kind(v.kind())), for_text))
    }

    /// The attention of all queries to all keys.
    fn attended(&self) -> Tensor {
        let [keys, values] = self.keys_and_values();
        attention(&self.queries(true), &keys, &values)
    }

    /// Those of the image, followed by those of the text, `[B, H, n + m, d]`.
    fn keys_and_values(&self) -> [Tensor; 2] {
        let both = |image: &Tensor, text: &Tensor| heads(&Tensor::cat(&[image, text], 1));
        [both(&self.image.k, &self.text.k), both(&self.image.v, &self.text.v)]
    }

    /// The image's queries, followed by the text's if it has any and they are wanted.
    fn queries(&self, text: bool) -> Tensor {
        match self.text.q.as_ref().filter(|_| text) {
            Some(q) => heads(&Tensor::cat(&[&self.image.q, q], 1)),
            None => self.q.shallow_clone(),
        }
    }

    /// The outputs of the image's queries and of the text's, which follow them: `[B, H, tokens, d]`.
    fn outputs(&self, attended: &Tensor) -> Outputs {
        let (output, tokens) = (merge(attended), self.q.size()[2]);
        let of_text = self.text.q.as_ref().map(|q| output.narrow(1, tokens, q.size()[1]));
        (output.narrow(1, 0, tokens), of_text)
    }
}

/// `[B, tokens, H, d]` to `[B, H, tokens, d]`.
fn heads(x: &Tensor) -> Tensor {
    x.transpose(1, 2)
}

/// `[B, H, tokens, d]` to `[B, tokens, H·d]`.
fn merge(x: &Tensor) -> Tensor {
    x.transpose(1, 2).flatten(2, 3)
}
