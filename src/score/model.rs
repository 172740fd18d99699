//! A loaded model: everything that turns images and texts into what a score or an image needs.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tch::{Device, Kind, Tensor};

use super::batches::Sizes;
use super::graphs::{Graphs, Made, Way, What};
use crate::backbone::unet::UNet;
use crate::backbone::{Backbone, Site};
use crate::checkpoint::{Checkpoint, Prediction};
use crate::config::{ScoreConfig, Times};
use crate::deltas::{Architecture, Deltas, Fingerprint, Patch};
use crate::encode::image::{Image, Preprocess, Rgb, preprocess};
use crate::encode::tokenizer::{Tokenizer, Tokens, Truncate};
use crate::encode::{TextEncoder, VaeDecoder, VaeEncoder};
use crate::nn;
use crate::noise::{self, Schedule};
use crate::torch::graph::has_graphs;
use crate::torch::{Shared, ahead, check_interrupt, records_graphs, shim, upload};
use crate::{Error, Result};

/// A checkpoint on a device, ready to score, and perhaps deltas. Nothing in it changes after loading; a copy shares
/// the weights.
#[derive(Clone)]
pub struct Model {
    base: Arc<Shared<Base>>,
    adapted: Option<Arc<Shared<Adapted>>>,
    graphs: Option<Arc<Graphs>>,
    sizes: Arc<Sizes>,
}

/// The checkpoint itself.
struct Base {
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    text: TextEncoder,
    vae: VaeEncoder,
    /// Read when an image is first generated.
    decoder: OnceLock<VaeDecoder>,
    unet: Box<dyn Backbone + Send>,
    schedule: Schedule,
    device: Device,
    kind: Kind,
    /// Whether a prediction has been compared with what the configuration says.
    compared: AtomicBool,
}

/// Deltas, and how the network applies them.
struct Adapted {
    deltas: Deltas,
    patch: Patch,
}

/// Number of parameters by part; the VAE's decoder is not loaded and not counted.
#[derive(Debug, Clone, Copy)]
pub struct Parameters {
    pub unet: usize,
    pub vae_encoder: usize,
    pub text_encoder: usize,
}

/// Texts ready for the UNet.
pub struct Texts {
    /// `τ(y)` `[n, m, D]` on the model's device.
    pub vectors: Tensor,
    pub tokens: Vec<Tokens>,
}

impl Model {
    /// Loads every part of the model in `dir`.
    pub fn load(dir: &Path, variant: Option<&str>, device: Device, kind: Kind) -> Result<Self> {
        Model::new(Checkpoint::open(dir, variant)?, device, kind)
    }

    /// Loads every part of a checkpoint; the VAE's decoder later, if it is lazy.
    pub fn new(checkpoint: Checkpoint, device: Device, kind: Kind) -> Result<Self> {
        let tokenizer = Tokenizer::open(&checkpoint.dir().join("tokenizer"), checkpoint.text.max_tokens as usize)?;
        tokenizer.check_fits(checkpoint.text.vocab_size)?;
        let base = Base {
            tokenizer,
            text: TextEncoder::new(&checkpoint, device, kind)?,
            vae: VaeEncoder::new(&checkpoint, device, kind)?,
            decoder: OnceLock::new(),
            unet: Box::new(UNet::new(&checkpoint, device, kind)?),
            schedule: Schedule::new(&checkpoint.scheduler),
            checkpoint,
            device,
            kind,
            compared: AtomicBool::new(false),
        };
        let graphs = match device {
            Device::Cuda(index) if records_graphs() && has_graphs() => Some(Arc::new(Graphs::new(Way::Cuda(index)))),
            _ => None,
        };
        // SAFETY: beside tensors it holds nothing that changes but behind locks, and weights are only read.
        let base = unsafe { Shared::new(base) };
        let model = Model { base: Arc::new(base), adapted: None, graphs, sizes: Arc::default() };
        if !model.checkpoint().is_lazy() {
            model.decoder()?;
            model.checkpoint().identity()?;
        }
        Ok(model)
    }

    /// The same model with these records of its work, or none.
    pub fn with_graphs(self, graphs: Option<Graphs>) -> Model {
        Model { graphs: graphs.map(Arc::new), ..self }
    }

    /// Records of small work that comes again, where there may be any.
    pub fn graphs(&self) -> Option<&Graphs> {
        self.graphs.as_deref()
    }

    /// What is known of the memory that batches take, shared by all that share the weights.
    pub(super) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Where memory ran out: gives back what records and libtorch keep for later.
    pub fn make_room(&self) {
        if let Some(graphs) = self.graphs() {
            graphs.clear();
        }
        shim::empty_cuda_cache();
    }

    /// The same model with these deltas, or none.
    ///
    /// `merge` adds them to the weights once (32 matrices at most for keys and values); otherwise each is a product of
    /// its own. By default they are merged in float32, while half precision would round small deltas away.
    ///
    /// # Errors
    /// `Deltas` if they were made for another architecture.
    pub fn with_deltas(&self, deltas: Option<Deltas>, merge: Option<bool>) -> Result<Model> {
        if let Some(other) = deltas.as_ref().map(|deltas| &deltas.architecture).filter(|a| **a != self.architecture()) {
            return Err(Error::Deltas(format!(
                "these deltas were made for another architecture ({}); this model's is {}",
                other.describe(),
                self.architecture().describe()
            )));
        }
        let merge = merge.unwrap_or(self.kind() == Kind::Float);
        let adapt = |deltas: Deltas| {
            let patch = deltas.patch(|target| self.backbone().weight(target).shallow_clone(), merge)?;
            // SAFETY: tensors and plain data; training writes to copies of its own.
            Ok(Arc::new(unsafe { Shared::new(Adapted { deltas, patch }) }))
        };
        let adapted = deltas.map(adapt).transpose()?;
        // Records read the weights that they were made with.
        let graphs = self.graphs().map(|graphs| Arc::new(graphs.anew()));
        Ok(Model { base: self.base.clone(), adapted, graphs, sizes: self.sizes.clone() })
    }

    /// The deltas in use.
    pub fn deltas(&self) -> Option<&Deltas> {
        self.adapted.as_ref().map(|adapted| &adapted.deltas)
    }

    /// The deltas in use, as the network applies them.
    pub fn patch(&self) -> Option<&Patch> {
        self.adapted.as_ref().map(|adapted| &adapted.patch)
    }

    /// What deltas have to fit.
    pub fn architecture(&self) -> Architecture {
        Architecture { sites: self.sites().to_vec(), text_width: self.base.checkpoint.unet.cross_attention_dim }
    }

    /// By what deltas recognise this model.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        Fingerprint::new(&self.architecture(), self.checkpoint())
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.base.checkpoint
    }

    pub fn device(&self) -> Device {
        self.base.device
    }

    pub fn kind(&self) -> Kind {
        self.base.kind
    }

    /// The VAE's other half, read on first use: scores need none of it.
    pub fn decoder(&self) -> Result<&VaeDecoder> {
        let known = &self.base.decoder;
        if known.get().is_none() {
            // Two threads may both read it; one of them keeps its own.
            let read = VaeDecoder::new(&self.base.checkpoint, self.base.device, self.base.kind)?;
            return Ok(known.get_or_init(|| read));
        }
        Ok(known.get().expect("it is there"))
    }

    pub fn schedule(&self) -> &Schedule {
        &self.base.schedule
    }

    pub fn backbone(&self) -> &(dyn Backbone + Send) {
        self.base.unet.as_ref()
    }

    pub(super) fn has_been_compared(&self) -> bool {
        self.base.compared.load(Ordering::Relaxed)
    }

    pub(super) fn set_compared(&self) {
        self.base.compared.store(true, Ordering::Relaxed);
    }

    /// The cross-attention sites, in forward order.
    pub fn sites(&self) -> &[Site] {
        self.base.unet.sites()
    }

    pub fn parameters(&self) -> Parameters {
        Parameters {
            unet: self.base.unet.parameters(),
            vae_encoder: self.base.vae.parameters(),
            text_encoder: self.base.text.parameters(),
        }
    }

    /// Side of the square images that the model was trained on, pixels.
    pub fn resolution(&self) -> usize {
        (self.base.checkpoint.unet.sample_size * self.base.checkpoint.vae.scale_factor()) as usize
    }

    /// Shape `[C, h, w]` of one latent under `config`.
    pub fn latent_shape(&self, config: &ScoreConfig) -> Result<[i64; 3]> {
        let factor = self.base.checkpoint.vae.scale_factor() as usize;
        let side = config.resolution.unwrap_or_else(|| self.resolution());
        if !side.is_multiple_of(factor) {
            return Err(Error::Config(format!(
                "resolution is {side}; this model needs a multiple of {factor}, its own is {}",
                self.resolution()
            )));
        }
        let side = (side / factor) as i64;
        Ok([self.base.checkpoint.vae.latent_channels, side, side])
    }

    /// The timesteps that `config` asks for, the noisiest first where they come from the schedule.
    pub fn timesteps(&self, config: &ScoreConfig) -> Result<Vec<i64>> {
        let train = self.base.schedule.train_timesteps();
        match &config.times {
            Times::Steps(steps) => self.base.schedule.timesteps(*steps),
            Times::Timesteps(timesteps) => match timesteps.iter().find(|&&t| t >= train) {
                Some(t) => Err(Error::Config(format!("timesteps holds {t}; this model's are 0 to {}", train - 1))),
                None => Ok(timesteps.clone()),
            },
            Times::NoiseLevels(levels) => Ok(levels.iter().map(|&level| self.base.schedule.at_level(level)).collect()),
            &Times::Range { low, high, steps } => self.base.schedule.between(low, high, steps),
        }
    }

    /// The seeded noise of each timestep, `[steps, C, h, w]`, float32 on the CPU.
    pub fn noise(&self, config: &ScoreConfig) -> Result<Tensor> {
        let shape = self.latent_shape(config)?;
        let timesteps = self.timesteps(config)?;
        let draws = timesteps.iter().enumerate().map(|(i, &t)| {
            let repeat = timesteps[..i].iter().filter(|&&earlier| earlier == t).count() as u32;
            noise::draw(config.seed, t, repeat, shape)
        });
        Ok(Tensor::stack(&draws.collect::<Vec<_>>(), 0))
    }

    /// Token ids and what they stand for.
    pub fn tokenize(&self, text: &str, truncate: Truncate) -> Result<Tokens> {
        self.base.tokenizer.encode(text, truncate)
    }

    /// Text vectors, a few texts at a time.
    pub fn encode_texts(&self, texts: &[&str], truncate: Truncate) -> Result<Texts> {
        let tokens = texts.iter().map(|text| self.tokenize(text, truncate)).collect::<Result<Vec<_>>>()?;
        let mut vectors = vec![];
        for chunk in tokens.chunks(if self.base.device.is_cuda() { 256 } else { 16 }) {
            let ids: Vec<Tensor> = chunk.iter().map(|tokens| Tensor::from_slice(&tokens.ids)).collect();
            let ids = upload(&Tensor::stack(&ids, 0), self.base.device);
            vectors.push(self.recording(What::Texts, 16, &ids, |ids| self.base.text.forward(ids))?);
        }
        let vectors = Tensor::cat(&vectors, 0);
        self.finite("the text encoder", &vectors)?;
        Ok(Texts { vectors, tokens })
    }

    /// Latents `z` `[n, C, h, w]` on the model's device, float32.
    pub fn encode_images(&self, images: &[Image], config: &ScoreConfig) -> Result<Tensor> {
        self.encode_images_seeing(images, config, |_| ())
    }

    /// The same; `see` is shown every image as it is encoded.
    pub fn encode_images_seeing(
        &self,
        images: &[Image],
        config: &ScoreConfig,
        mut see: impl FnMut(&Rgb),
    ) -> Result<Tensor> {
        let how = self.preprocessing(config)?;
        // The encoder's first layers hold 128 channels at full size, about 0.5 GB for one image of 512 pixels.
        let budget = if self.base.device.is_cuda() { 8 } else { 1 } * 512 * 512;
        let at_a_time = (budget / (how.height * how.width)).clamp(1, 256);
        let encode = |chunk: Vec<Rgb>| {
            chunk.iter().for_each(&mut see);
            let pixels = chunk.iter().map(|image| self.pixels(image)).collect::<Result<Vec<_>>>()?;
            let pixels = Tensor::stack(&pixels, 0);
            Ok(self.recording(What::Images, 2, &pixels, |pixels| self.base.vae.forward(pixels))?.to_kind(Kind::Float))
        };
        let latents = ahead(images.chunks(at_a_time), |chunk| prepare(chunk, &how), encode)?;
        let latents = Tensor::cat(&latents, 0);
        self.finite("the VAE's encoder", &latents)?;
        Ok(latents)
    }

    /// Refuses images that cannot be decoded.
    pub fn check_images(&self, images: &[Image]) -> Result<()> {
        images.iter().try_for_each(|image| {
            check_interrupt()?;
            image.rgb().map(drop)
        })
    }

    /// What `work` makes of `x`, by a record where there is one; of `most` entries at most.
    fn recording(&self, what: What, most: i64, x: &Tensor, work: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let Some(graphs) = self.graphs().filter(|_| x.size()[0] <= most && nn::free()) else {
            return work(x);
        };
        let work = |x: &[Tensor]| Ok(Made { tensors: vec![work(&x[0])?], repeatable: true });
        let mut made = graphs.run(what, &[x.shallow_clone()], &work)?;
        Ok(made.pop().expect("one tensor gives one"))
    }

    /// How images are brought to the size that `config` asks for.
    pub fn preprocessing(&self, config: &ScoreConfig) -> Result<Preprocess> {
        let [_, height, width] = self.latent_shape(config)?;
        let factor = self.base.checkpoint.vae.scale_factor();
        Ok(Preprocess {
            height: (height * factor) as usize,
            width: (width * factor) as usize,
            via: config.via,
            resize: config.resize,
        })
    }

    /// One image as the VAE takes it: `[3, H, W]` in [−1, 1].
    fn pixels(&self, image: &Rgb) -> Result<Tensor> {
        let (height, width) = (image.height as i64, image.width as i64);
        let bytes = upload(&Tensor::from_slice(&image.data).view([height, width, 3]), self.base.device);
        Ok((bytes.permute([2, 0, 1]).to_kind(Kind::Float) / 127.5 - 1.0).to_kind(self.base.kind))
    }

    /// What the UNet should predict at timesteps, from `z` and `ε` `[I, C, h, w]`: `ε` itself, or the velocity.
    pub fn target(&self, clean: &Tensor, noise: &Tensor, timesteps: &[i64]) -> Tensor {
        match self.base.checkpoint.scheduler.prediction {
            Prediction::Epsilon => noise.shallow_clone(),
            Prediction::Velocity => self.base.schedule.velocity(clean, noise, timesteps),
        }
    }
}

/// Images brought to the size that they are encoded in, one after the other: each as its caller has it may be large.
fn prepare(images: &[Image], how: &Preprocess) -> Result<Vec<Rgb>> {
    let one = |image: &Image| {
        check_interrupt()?;
        let pixels = image.rgb()?;
        check_interrupt()?;
        preprocess(&pixels, how)
    };
    images.iter().map(one).collect()
}
