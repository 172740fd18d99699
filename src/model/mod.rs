//! Stage 6: a loaded model of any family, which encodes images and texts and evaluates the denoiser. Scoring, training
//! and generation are built on it.

mod adapted;
mod base;
mod batches;
mod calibration;
mod encoding;
mod kept;
mod prediction_check;
mod resolved;

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

pub use batches::{Batches, Event};
pub use calibration::Calibration;
pub use encoding::Texts;
pub use resolved::check_side;

use self::adapted::Adapted;
use self::base::Base;
use self::batches::Sizes;
use self::kept::Kept;
use crate::checkpoint::Checkpoint;
use crate::config::ScoreConfig;
use crate::deltas::{Architecture, AttentionLayer, Deltas, Fingerprint, Patch};
use crate::denoiser::{Denoiser, MicroConditions};
use crate::encode::image::{Image, Preprocess, Rgb};
use crate::encode::text::Tokens;
use crate::encode::tokenizer::Truncate;
use crate::encode::{VaeConfig, VaeDecoder};
use crate::families::{Facts, Options};
use crate::kernels::graph_cache::{GraphCache, Mode};
use crate::kernels::{graph, records_graphs, shim};
use crate::noise::{Prediction, Process, Time};
use crate::runtime::Shared;
use crate::{Error, Result};

/// A checkpoint on a device, with deltas if they are loaded. It is immutable after loading; clones share the weights.
#[derive(Clone)]
pub struct Model {
    base: Arc<Shared<Base>>,
    adapted: Option<Arc<Shared<Adapted>>>,
    graphs: Option<Arc<GraphCache>>,
    sizes: Arc<Sizes>,
    kept: Arc<Kept>,
    calibration: Option<Arc<Calibration>>,
}

impl Model {
    /// Loads every part of the model in the folder `dir`. `variant` is that of [`Checkpoint::open`].
    ///
    /// # Errors
    /// `Checkpoint`, naming the file and the field, if it is incomplete or of an unsupported kind; `OutOfMemory`.
    pub fn load(dir: &Path, variant: Option<&str>, device: Device, kind: Kind) -> Result<Self> {
        Model::new(Checkpoint::open(dir, variant)?, Options { device, kind, prediction: None })
    }

    /// Loads every part of a checkpoint; if it is lazy, the VAE's decoder is loaded at first use.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn new(checkpoint: Checkpoint, options: Options) -> Result<Self> {
        let graphs = match options.device {
            Device::Cuda(index) if records_graphs() && graph::has_graphs() => {
                Some(Arc::new(GraphCache::new(Mode::Cuda(index))))
            }
            _ => None,
        };
        // SAFETY: weights are only read, and everything that changes is behind locks.
        let base = unsafe { Shared::new(Base::open(checkpoint, options)?) };
        Ok(Model {
            base: Arc::new(base),
            adapted: None,
            graphs,
            sizes: Arc::default(),
            kept: Arc::default(),
            calibration: None,
        })
    }

    /// The same model with another cache of CUDA graphs, or none.
    pub fn with_graphs(self, graphs: Option<GraphCache>) -> Model {
        Model { graphs: graphs.map(Arc::new), ..self }
    }

    /// The cache of CUDA graphs, if graphs are recorded.
    pub fn graphs(&self) -> Option<&GraphCache> {
        self.graphs.as_deref()
    }

    /// Numbers that were computed with these weights and deltas.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Frees the memory that recorded graphs and libtorch's allocator keep, after memory ran out.
    pub fn make_room(&self) {
        if let Some(graphs) = self.graphs() {
            graphs.clear();
        }
        shim::empty_cuda_cache();
    }

    /// The same model with these deltas, or none.
    ///
    /// With `merge` the deltas are added to the weights once, otherwise each is applied by a product of its own. By
    /// default they are merged in float32 only, since half precision would round small deltas to zero.
    ///
    /// # Errors
    /// `Deltas` if they were made for another architecture.
    pub fn with_deltas(&self, deltas: Option<Deltas>, merge: Option<bool>) -> Result<Model> {
        let adapted = deltas.map(|deltas| adapted::adapt(self, deltas, merge)).transpose()?;
        // Recorded graphs read the weights that they were recorded with.
        let graphs = self.graphs().map(|graphs| Arc::new(graphs.anew()));
        let (base, sizes) = (self.base.clone(), self.sizes.clone());
        Ok(Model { base, adapted, graphs, sizes, kept: Arc::default(), calibration: None })
    }

    /// The same model with these weights of scores, which were checked, or none. Weights belong to the deltas in use:
    /// with others there are none again.
    pub fn with_checked_calibration(&self, calibration: Option<Calibration>) -> Model {
        Model { calibration: calibration.map(Arc::new), kept: Arc::default(), ..self.clone() }
    }

    /// The weights of scores, if there are some.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_deref()
    }

    /// The deltas in use.
    pub fn deltas(&self) -> Option<&Deltas> {
        self.adapted.as_ref().map(|adapted| &adapted.deltas)
    }

    /// The deltas in use, as the network applies them.
    pub fn patch(&self) -> Option<&Patch> {
        self.adapted.as_ref().map(|adapted| &adapted.patch)
    }

    /// The attention layers, which deltas must fit.
    pub fn architecture(&self) -> &Architecture {
        self.base.parts.denoiser.architecture()
    }

    /// The identity by which deltas recognise this model.
    ///
    /// # Errors
    /// `Checkpoint` if a file was written to since it was opened.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        adapted::fingerprint(self, &self.base.parts)
    }

    /// The checkpoint that the model was loaded from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.base.checkpoint
    }

    /// The facts about the model's family.
    pub fn family(&self) -> &'static Facts {
        self.base.facts
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.base.device
    }

    /// The data type of the denoiser and the text encoders.
    pub fn kind(&self) -> Kind {
        self.base.kind
    }

    /// The autoencoder's configuration.
    pub fn vae(&self) -> &VaeConfig {
        &self.base.parts.vae_config
    }

    /// The data type of the autoencoder.
    pub fn vae_kind(&self) -> Kind {
        self.base.parts.vae_kind
    }

    /// The VAE's decoder, loaded at first use, since scores do not need it.
    ///
    /// # Errors
    /// `Checkpoint` if it cannot be read.
    pub fn decoder(&self) -> Result<&VaeDecoder> {
        self.base.decoder()
    }

    /// The noise process that the model was trained to reverse.
    pub fn process(&self) -> &dyn Process {
        self.base.parts.process.as_ref()
    }

    /// The denoising network.
    pub fn denoiser(&self) -> &(dyn Denoiser + Send) {
        self.base.parts.denoiser.as_ref()
    }

    /// The attention layers, in forward order.
    pub fn layers(&self) -> &[AttentionLayer] {
        &self.architecture().layers
    }

    /// Number of parameters of each part, without the VAE's decoder.
    pub fn parameters(&self) -> Vec<(&'static str, usize)> {
        self.base.parameters()
    }

    /// Side of the latents that the model was trained on.
    pub fn sample_size(&self) -> i64 {
        self.base.parts.sample_size
    }

    /// `m`, the number of columns of a map.
    pub fn columns(&self) -> usize {
        self.base.parts.conditioner.columns()
    }

    /// The most tokens of a text that every text encoder reads, including BOS and EOS.
    pub fn max_tokens(&self) -> usize {
        self.base.parts.conditioner.max_tokens()
    }

    /// Side of the square images that the model was trained on, pixels.
    pub fn resolution(&self) -> usize {
        (self.sample_size() * self.vae().scale_factor()) as usize
    }

    /// What the network is told of an image to be scored: the sizes that `config` says, or that it has the model's own size
    /// and nothing was cut off.
    ///
    /// # Errors
    /// `Config` if sizes are given to a model that takes none.
    pub fn conditions(&self, config: &ScoreConfig) -> Result<MicroConditions> {
        let sizes = [config.original_size, config.crops_coords_top_left, config.target_size];
        self.with_sizes(MicroConditions::of_size([self.resolution() as i64; 2]), sizes)
    }

    /// The same of other sizes: original, crop and target.
    ///
    /// # Errors
    /// As [`Self::conditions`].
    pub fn with_sizes(&self, base: MicroConditions, sizes: [Option<[i64; 2]>; 3]) -> Result<MicroConditions> {
        resolved::with_sizes(self, base, sizes)
    }

    /// Shape `[C, h, w]` of one latent under `config`.
    ///
    /// # Errors
    /// `Config` if the resolution does not fit the model.
    pub fn latent_shape(&self, config: &ScoreConfig) -> Result<[i64; 3]> {
        resolved::latent_shape(self, config)
    }

    /// The times that `config` selects, the noisiest first if they are computed from the schedule.
    ///
    /// # Errors
    /// `Config` if the model has no such times.
    pub fn times(&self, config: &ScoreConfig) -> Result<Vec<Time>> {
        resolved::times(self, config)
    }

    /// The seeded noise of each time, `[steps, C, h, w]`, float32 on the CPU.
    ///
    /// # Errors
    /// As [`Self::latent_shape`] and [`Self::times`].
    pub fn noise(&self, config: &ScoreConfig) -> Result<Tensor> {
        resolved::noise(self, config)
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// `Config` if the text has more tokens than the model takes and `truncate` is [`Truncate::Error`].
    pub fn tokenize(&self, text: &str, truncate: Truncate) -> Result<Tokens> {
        self.base.parts.conditioner.tokenize(text, truncate)
    }

    /// Encodes texts, a few at a time.
    ///
    /// # Errors
    /// As [`Self::tokenize`]; `Numerical` if a vector is not finite; `Interrupted`.
    pub fn encode_texts(&self, texts: &[&str], truncate: Truncate) -> Result<Texts> {
        encoding::texts(self, &self.base.parts, texts, truncate, false)
    }

    /// Encodes texts and, as one more text after them, the unconditional text.
    ///
    /// # Errors
    /// As [`Self::encode_texts`].
    pub fn encode_texts_and_none(&self, texts: &[&str], truncate: Truncate) -> Result<Texts> {
        encoding::texts(self, &self.base.parts, texts, truncate, true)
    }

    /// Encodes images to latents `z` `[n, C, h, w]` on the model's device, float32.
    ///
    /// # Errors
    /// `Image` if one cannot be decoded; `Config` as of [`Self::latent_shape`]; `Numerical` if a latent is not finite;
    /// `Interrupted`.
    pub fn encode_images(&self, images: &[Image], config: &ScoreConfig) -> Result<Tensor> {
        self.encode_images_seeing(images, config, |_| ())
    }

    /// [`Self::encode_images`], which also calls `see` with every preprocessed image.
    ///
    /// # Errors
    /// As [`Self::encode_images`].
    pub fn encode_images_seeing(
        &self,
        images: &[Image],
        config: &ScoreConfig,
        see: impl FnMut(&Rgb),
    ) -> Result<Tensor> {
        encoding::images(self, &self.base.parts, images, &self.preprocessing(config)?, see)
    }

    /// Decodes latents `[n, C, h, w]`, scaled as the encoder's, to images in about [−1, 1] `[n, 3, H, W]`, float32, not
    /// clipped.
    ///
    /// # Errors
    /// `Checkpoint` if the decoder cannot be read; `Numerical` if an image is not finite; `Interrupted`.
    pub fn decode_latents(&self, latents: &Tensor) -> Result<Tensor> {
        encoding::decoded(self, latents)
    }

    /// How images are scaled to the resolution of `config`.
    ///
    /// # Errors
    /// As of [`Self::latent_shape`].
    pub fn preprocessing(&self, config: &ScoreConfig) -> Result<Preprocess> {
        let [_, height, width] = self.latent_shape(config)?;
        let factor = self.vae().scale_factor();
        Ok(Preprocess {
            height: (height * factor) as usize,
            width: (width * factor) as usize,
            via: config.via,
            resize: config.resize,
        })
    }

    /// The default number of evaluations at a time, for latents of so many pixels. On the CPU, one evaluation of 64×64
    /// latents uses all cores; a GPU needs many more, within its free memory.
    pub fn auto_batch(&self, latent_pixels: i64) -> usize {
        batches::auto(self.device(), latent_pixels as usize)
    }

    /// Warns if the first predictions that the model makes at high noise levels are not of the type that its
    /// configuration names; all tensors are `[B, C, h, w]`.
    pub fn compare_to_target(&self, noised: &Tensor, target: &Tensor, prediction: &Tensor, times: &[Time]) {
        self.base.prediction_check.compare(self, noised, target, prediction, times);
    }

    /// Whether [`Self::compare_to_target`] has made its check.
    pub fn is_compared(&self) -> bool {
        self.base.prediction_check.is_done()
    }

    /// What the network predicts, by its configuration.
    pub fn prediction(&self) -> Prediction {
        self.process().prediction()
    }

    /// Refuses a tensor with numbers that are not finite; `what` names what computed it.
    ///
    /// # Errors
    /// `Numerical`, with a remedy.
    pub fn finite(&self, what: &str, tensor: &Tensor) -> Result<()> {
        if is_finite(tensor) { Ok(()) } else { Err(self.not_finite(what)) }
    }

    /// The error for numbers that are not finite; `what` names what computed them.
    pub(crate) fn not_finite(&self, what: &str) -> Error {
        let remedy = match self.kind() {
            Kind::Half => "float16 ends at 65504: use dtype=\"float32\" or \"bfloat16\"",
            Kind::BFloat16 => {
                "use dtype=\"float32\"; if that is no better, weights of the model, or its deltas, are damaged"
            }
            _ => "its weights, or the deltas, are damaged, or the noise that was given is too large",
        };
        Error::Numerical(format!(
            "{what} gave numbers that are not finite in {}; {remedy}",
            crate::device::dtype_name(self.kind())
        ))
    }
}

/// Whether all numbers of a tensor are finite.
pub(crate) fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) != 0
}
