//! Encoding of images and texts for the denoiser, and decoding of latents.

use tch::{Kind, Tensor};

use super::Model;
use crate::Result;
use crate::device::upload;
use crate::encode::Conditioning;
use crate::encode::image::{Image, Preprocess, Rgb, preprocess};
use crate::encode::text::Tokens;
use crate::encode::tokenizer::Truncate;
use crate::families::Parts;
use crate::kernels::{self, graph_cache::Made};
use crate::runtime::{check_interrupt, prefetch, warnings};

/// Encoded texts.
pub struct Texts {
    /// The conditioning of the denoiser, on the model's device.
    pub conditioning: Conditioning,
    /// The tokens of each text.
    pub tokens: Vec<Tokens>,
}

/// The most texts, and the most images, whose encoding is recorded as a CUDA graph.
const RECORDED: [i64; 2] = [16, 2];

/// Encodes texts, a few at a time, and with `and_none` the unconditional text after them.
pub fn texts(model: &Model, parts: &Parts, texts: &[&str], truncate: Truncate, and_none: bool) -> Result<Texts> {
    let conditioner = &parts.conditioner;
    let zero = and_none && conditioner.unconditional_is_zero();
    let mut all = texts.to_vec();
    if and_none {
        // If the unconditional text is zeros, the empty text provides their shape.
        all.push("");
    }
    let tokens = all.iter().map(|text| conditioner.tokenize(text, truncate)).collect::<Result<Vec<_>>>()?;
    let cut = tokens.iter().filter(|tokens| tokens.truncated()).count();
    if cut > 0 && truncate == Truncate::Warn {
        warnings::truncated(cut, conditioner.max_tokens());
    }
    let mut encoded = vec![];
    for chunk in tokens.chunks(if model.device().is_cuda() { 256 } else { 16 }) {
        let of_encoder = |encoder: usize| {
            let ids: Vec<Tensor> =
                chunk.iter().map(|tokens| Tensor::from_slice(&tokens.encodings[encoder].ids)).collect();
            upload(&Tensor::stack(&ids, 0), model.device())
        };
        let ids: Vec<Tensor> = (0..chunk[0].encodings.len()).map(of_encoder).collect();
        let made = recording(model, "texts", RECORDED[0], &ids, |ids| {
            let conditioning = conditioner.encode(ids)?;
            Ok(conditioning.tensors().map(Tensor::shallow_clone).collect())
        })?;
        let mut made = made.into_iter();
        let context = made.next().expect("an encoding has a context");
        encoded.push(Conditioning { context, pooled: made.next() });
    }
    let mut conditioning = Conditioning::cat(&encoded);
    for tensor in conditioning.tensors() {
        model.finite("the text encoder", tensor)?;
    }
    if zero {
        let last = Tensor::from_slice(&[texts.len() as i64]).to_device(model.device());
        let others = Tensor::arange(texts.len() as i64, (Kind::Int64, model.device()));
        conditioning = Conditioning::cat(&[conditioning.select(&others), conditioning.select(&last).zeros_like()]);
    }
    Ok(Texts { conditioning, tokens })
}

/// Encodes images to latents `z` `[n, C, h, w]` on the model's device, float32; `see` is called with every preprocessed
/// image.
pub fn images(
    model: &Model,
    parts: &Parts,
    images: &[Image],
    how: &Preprocess,
    mut see: impl FnMut(&Rgb),
) -> Result<Tensor> {
    // The encoder's first layers hold 128 channels at full size, about 0.5 GB for one image of 512 pixels.
    let budget = if model.device().is_cuda() { 8 } else { 1 } * 512 * 512;
    let at_a_time = (budget / (how.height * how.width)).clamp(1, 256);
    let encode = |chunk: Vec<Rgb>| {
        chunk.iter().for_each(&mut see);
        let pixels: Vec<Tensor> = chunk.iter().map(|image| pixels(model, image)).collect();
        let pixels = [Tensor::stack(&pixels, 0)];
        let latents =
            recording(model, "images", RECORDED[1], &pixels, |pixels| Ok(vec![parts.vae.forward(&pixels[0])?]))?;
        Ok(latents[0].to_kind(Kind::Float))
    };
    let latents = prefetch(images.chunks(at_a_time), |chunk| prepare(chunk, how), encode)?;
    let latents = Tensor::cat(&latents, 0);
    model.finite("the VAE's encoder", &latents)?;
    Ok(latents)
}

/// Decodes latents to images in [−1, 1], float32, a few at a time.
pub fn decoded(model: &Model, latents: &Tensor) -> Result<Tensor> {
    let decoder = model.decoder()?;
    // The decoder's last layers hold 256 channels at full size, about 1 GB for one image of 512 pixels.
    let budget = if model.device().is_cuda() { 8 } else { 1 } * 64 * 64;
    let size = latents.size();
    let at_a_time = (budget / (size[2] * size[3])).clamp(1, 256);
    let mut images = vec![];
    for start in (0..size[0]).step_by(at_a_time as usize) {
        check_interrupt()?;
        let some = latents.narrow(0, start, at_a_time.min(size[0] - start)).to_kind(model.vae_kind());
        images.push(decoder.forward(&some)?.to_kind(Kind::Float));
    }
    let images = Tensor::cat(&images, 0);
    model.finite("the VAE's decoder", &images)?;
    Ok(images)
}

/// The tensors that `work` computes from `x`, by a recorded CUDA graph if `x` has at most `most` entries.
fn recording(
    model: &Model,
    what: &str,
    most: i64,
    x: &[Tensor],
    work: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let Some(graphs) = model.graphs().filter(|_| x[0].size()[0] <= most && kernels::free()) else {
        return work(x);
    };
    graphs.run(what, x, &|x| Ok(Made { tensors: work(x)?, repeatable: true }))
}

/// An image as input of the autoencoder: `[3, H, W]` in [−1, 1].
fn pixels(model: &Model, image: &Rgb) -> Tensor {
    let (height, width) = (image.height as i64, image.width as i64);
    let bytes = upload(&Tensor::from_slice(&image.data).view([height, width, 3]), model.device());
    (bytes.permute([2, 0, 1]).to_kind(Kind::Float) / 127.5 - 1.0).to_kind(model.vae_kind())
}

/// Preprocesses images one after the other, since decoded images may be large.
fn prepare(images: &[Image], how: &Preprocess) -> Result<Vec<Rgb>> {
    let one = |image: &Image| {
        check_interrupt()?;
        let pixels = image.rgb()?;
        check_interrupt()?;
        preprocess(&pixels, how)
    };
    images.iter().map(one).collect()
}
