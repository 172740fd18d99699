//! A tiny checkpoint with random weights in the published layout: Stable Diffusion, Stable Diffusion XL, or Stable
//! Diffusion 3 without T5.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use discffusion::model::Model;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};
use tch::{Device, Kind};
use tempfile::{TempDir, tempdir};

/// What a test may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    StableDiffusion,
    Xl,
    /// With norms of queries and keys, and a block of dual attention.
    Sd3,
}

pub const FAMILIES: [Family; 3] = [Family::StableDiffusion, Family::Xl, Family::Sd3];

/// Channels of the UNet's two levels, width of a text encoder, tokens.
const CHANNELS: [usize; 2] = [8, 16];
const TEXT: usize = 8;
const TOKENS: usize = 8;
/// Width of the sinusoids of a size.
const SIZES: usize = 4;
/// Of the transformer: width of its tokens and of its heads, width of the text vectors, side of the grid of positions.
const WIDTH: [usize; 2] = [16, 8];
const CONTEXT: usize = 20;
const POSITIONS: usize = 6;

/// The model, and the folder that it lies in.
pub fn model(family: Family) -> (Model, TempDir) {
    let dir = tempdir().unwrap();
    write(dir.path(), family);
    (Model::load(dir.path(), None, Device::Cpu, Kind::Float).unwrap(), dir)
}

/// Names and shapes of a network's weights.
#[derive(Default)]
struct Weights(BTreeMap<String, Vec<usize>>);

impl Weights {
    fn add(&mut self, name: &str, shape: &[usize]) {
        self.0.insert(name.to_owned(), shape.to_vec());
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) {
        self.add(&format!("{name}.weight"), &[outputs, inputs]);
        if bias {
            self.add(&format!("{name}.bias"), &[outputs]);
        }
    }

    fn conv(&mut self, name: &str, inputs: usize, outputs: usize, kernel: usize) {
        self.add(&format!("{name}.weight"), &[outputs, inputs, kernel, kernel]);
        self.add(&format!("{name}.bias"), &[outputs]);
    }

    fn norm(&mut self, name: &str, channels: usize) {
        self.add(&format!("{name}.weight"), &[channels]);
        self.add(&format!("{name}.bias"), &[channels]);
    }

    fn resnet(&mut self, name: &str, inputs: usize, outputs: usize, time: Option<usize>) {
        self.norm(&format!("{name}.norm1"), inputs);
        self.conv(&format!("{name}.conv1"), inputs, outputs, 3);
        if let Some(time) = time {
            self.linear(&format!("{name}.time_emb_proj"), time, outputs, true);
        }
        self.norm(&format!("{name}.norm2"), outputs);
        self.conv(&format!("{name}.conv2"), outputs, outputs, 3);
        if inputs != outputs {
            self.conv(&format!("{name}.conv_shortcut"), inputs, outputs, 1);
        }
    }

    fn transformer(&mut self, name: &str, channels: usize, text: usize, blocks: usize) {
        self.norm(&format!("{name}.norm"), channels);
        self.linear(&format!("{name}.proj_in"), channels, channels, true);
        for i in 0..blocks {
            let block = format!("{name}.transformer_blocks.{i}");
            for (attention, context) in [("attn1", channels), ("attn2", text)] {
                self.linear(&format!("{block}.{attention}.to_q"), channels, channels, false);
                self.linear(&format!("{block}.{attention}.to_k"), context, channels, false);
                self.linear(&format!("{block}.{attention}.to_v"), context, channels, false);
                self.linear(&format!("{block}.{attention}.to_out.0"), channels, channels, true);
            }
            for norm in 1..=3 {
                self.norm(&format!("{block}.norm{norm}"), channels);
            }
            self.linear(&format!("{block}.ff.net.0.proj"), channels, 8 * channels, true);
            self.linear(&format!("{block}.ff.net.2"), 4 * channels, channels, true);
        }
        self.linear(&format!("{name}.proj_out"), channels, channels, true);
    }

    /// Numbers that keep signals at their size; the same at every call.
    fn save(self, path: &Path) {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let number = |shape: &[usize], name: &str, random: f32| match shape {
            [_] if name.ends_with("weight") => 1.0 + 0.2 * random,
            [_] => 0.1 * random,
            [_, inputs @ ..] => random * (3.0 / inputs.iter().product::<usize>() as f32).sqrt(),
            [] => unreachable!("every weight has a dimension"),
        };
        let data: BTreeMap<&String, Vec<u8>> = self
            .0
            .iter()
            .map(|(name, shape)| {
                let count = shape.iter().product();
                (name, (0..count).flat_map(|_| number(shape, name, uniform()).to_le_bytes()).collect())
            })
            .collect();
        let views =
            self.0.iter().map(|(name, shape)| (name, TensorView::new(Dtype::F32, shape.clone(), &data[name]).unwrap()));
        serialize_to_file(views, None, path).unwrap();
    }
}

fn put(dir: &Path, name: &str, value: &Value) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

pub fn write(dir: &Path, family: Family) {
    if family == Family::Sd3 {
        return write_sd3(dir);
    }
    let xl = family == Family::Xl;
    let part = |library: &str, class: &str| json!([library, class]);
    let mut index = json!({
        "_class_name": if xl { "StableDiffusionXLPipeline" } else { "StableDiffusionPipeline" },
        "unet": part("diffusers", "UNet2DConditionModel"),
        "vae": part("diffusers", "AutoencoderKL"),
        "text_encoder": part("transformers", "CLIPTextModel"),
        "tokenizer": part("transformers", "CLIPTokenizer"),
        "scheduler": part("diffusers", "DDIMScheduler"),
    });
    if xl {
        index["text_encoder_2"] = part("transformers", "CLIPTextModelWithProjection");
        index["tokenizer_2"] = part("transformers", "CLIPTokenizer");
    }
    put(dir, "model_index.json", &index);
    let scheduler = json!({
        "_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
        "steps_offset": 1, "clip_sample": false, "set_alpha_to_one": false,
    });
    put(dir, "scheduler/scheduler_config.json", &scheduler);
    tokenizer(&dir.join("tokenizer"));
    text_encoder(&dir.join("text_encoder"), false);
    if xl {
        tokenizer(&dir.join("tokenizer_2"));
        text_encoder(&dir.join("text_encoder_2"), true);
    }
    vae(&dir.join("vae"));
    unet(&dir.join("unet"), xl);
}

fn write_sd3(dir: &Path) {
    let part = |library: &str, class: &str| json!([library, class]);
    let index = json!({
        "_class_name": "StableDiffusion3Pipeline",
        "transformer": part("diffusers", "SD3Transformer2DModel"),
        "vae": part("diffusers", "AutoencoderKL"),
        "text_encoder": part("transformers", "CLIPTextModelWithProjection"),
        "text_encoder_2": part("transformers", "CLIPTextModelWithProjection"),
        "text_encoder_3": [null, null],
        "tokenizer": part("transformers", "CLIPTokenizer"),
        "tokenizer_2": part("transformers", "CLIPTokenizer"),
        "tokenizer_3": [null, null],
        "scheduler": part("diffusers", "FlowMatchEulerDiscreteScheduler"),
    });
    put(dir, "model_index.json", &index);
    let scheduler = json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0 });
    put(dir, "scheduler/scheduler_config.json", &scheduler);
    for number in ["", "_2"] {
        tokenizer(&dir.join(format!("tokenizer{number}")));
        text_encoder(&dir.join(format!("text_encoder{number}")), true);
    }
    vae(&dir.join("vae"));
    transformer(&dir.join("transformer"));
}

/// Letters alone.
fn tokenizer(dir: &Path) {
    let mut tokens: Vec<String> = ["<|startoftext|>", "<|endoftext|>"].map(str::to_owned).to_vec();
    tokens.extend(('a'..='z').flat_map(|letter| [letter.to_string(), format!("{letter}</w>")]));
    let vocab: serde_json::Map<String, Value> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    put(dir, "vocab.json", &Value::Object(vocab));
    fs::write(dir.join("merges.txt"), "#version: 0.2\n").unwrap();
    let config = json!({
        "model_max_length": TOKENS, "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
    });
    put(dir, "tokenizer_config.json", &config);
}

fn text_encoder(dir: &Path, projected: bool) {
    let config = json!({
        "model_type": "clip_text_model", "vocab_size": 54, "hidden_size": TEXT, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": TOKENS, "hidden_act": "gelu",
        "projection_dim": TEXT, "eos_token_id": 1,
    });
    put(dir, "config.json", &config);
    let mut weights = Weights::default();
    weights.add("text_model.embeddings.token_embedding.weight", &[54, TEXT]);
    weights.add("text_model.embeddings.position_embedding.weight", &[TOKENS, TEXT]);
    for i in 0..2 {
        let layer = format!("text_model.encoder.layers.{i}");
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            weights.linear(&format!("{layer}.self_attn.{projection}"), TEXT, TEXT, true);
        }
        weights.linear(&format!("{layer}.mlp.fc1"), TEXT, 16, true);
        weights.linear(&format!("{layer}.mlp.fc2"), 16, TEXT, true);
        weights.norm(&format!("{layer}.layer_norm1"), TEXT);
        weights.norm(&format!("{layer}.layer_norm2"), TEXT);
    }
    weights.norm("text_model.final_layer_norm", TEXT);
    if projected {
        weights.linear("text_projection", TEXT, TEXT, false);
    }
    weights.save(&dir.join("model.safetensors"));
}

fn vae(dir: &Path) {
    let config = json!({
        "_class_name": "AutoencoderKL", "block_out_channels": [8, 8], "layers_per_block": 1, "latent_channels": 4,
        "norm_num_groups": 4, "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
    });
    put(dir, "config.json", &config);
    let mut weights = Weights::default();
    for (half, inputs, outputs, count) in [("encoder", 3, 8, 1), ("decoder", 4, 3, 2)] {
        weights.conv(&format!("{half}.conv_in"), inputs, 8, 3);
        let (blocks, sampler) = if half == "encoder" { ("down", "down") } else { ("up", "up") };
        for block in 0..2 {
            for i in 0..count {
                weights.resnet(&format!("{half}.{blocks}_blocks.{block}.resnets.{i}"), 8, 8, None);
            }
        }
        weights.conv(&format!("{half}.{blocks}_blocks.0.{sampler}samplers.0.conv"), 8, 8, 3);
        weights.resnet(&format!("{half}.mid_block.resnets.0"), 8, 8, None);
        weights.resnet(&format!("{half}.mid_block.resnets.1"), 8, 8, None);
        weights.norm(&format!("{half}.mid_block.attentions.0.group_norm"), 8);
        for projection in ["to_q", "to_k", "to_v", "to_out.0"] {
            weights.linear(&format!("{half}.mid_block.attentions.0.{projection}"), 8, 8, true);
        }
        weights.norm(&format!("{half}.conv_norm_out"), 8);
        weights.conv(&format!("{half}.conv_out"), 8, if half == "encoder" { 8 } else { outputs }, 3);
    }
    weights.conv("quant_conv", 8, 8, 1);
    weights.conv("post_quant_conv", 4, 4, 1);
    weights.save(&dir.join("diffusion_pytorch_model.safetensors"));
}

/// The way down has its transformer at the first level, or in XL, with two blocks, at the second.
fn unet(dir: &Path, xl: bool) {
    let (plain, cross) = (["DownBlock2D", "UpBlock2D"], ["CrossAttnDownBlock2D", "CrossAttnUpBlock2D"]);
    let text = if xl { 2 * TEXT } else { TEXT };
    let (first, second) = if xl { (plain, cross) } else { (cross, plain) };
    let mut config = json!({
        "_class_name": "UNet2DConditionModel", "in_channels": 4, "out_channels": 4, "sample_size": 8,
        "block_out_channels": CHANNELS, "layers_per_block": 1, "attention_head_dim": [1, 2], "norm_num_groups": 4,
        "cross_attention_dim": text, "use_linear_projection": true, "transformer_layers_per_block": [1, 2],
        "down_block_types": [first[0], second[0]], "up_block_types": [second[1], first[1]],
    });
    let added = TEXT + 6 * SIZES;
    if xl {
        config["addition_embed_type"] = json!("text_time");
        config["addition_time_embed_dim"] = json!(SIZES);
        config["projection_class_embeddings_input_dim"] = json!(added);
    }
    put(dir, "config.json", &config);
    let ([low, high], time) = (CHANNELS, 4 * CHANNELS[0]);
    let mut weights = Weights::default();
    weights.linear("time_embedding.linear_1", low, time, true);
    weights.linear("time_embedding.linear_2", time, time, true);
    if xl {
        weights.linear("add_embedding.linear_1", added, time, true);
        weights.linear("add_embedding.linear_2", time, time, true);
    }
    weights.conv("conv_in", 4, low, 3);
    weights.resnet("down_blocks.0.resnets.0", low, low, Some(time));
    weights.conv("down_blocks.0.downsamplers.0.conv", low, low, 3);
    weights.resnet("down_blocks.1.resnets.0", low, high, Some(time));
    weights.resnet("mid_block.resnets.0", high, high, Some(time));
    weights.transformer("mid_block.attentions.0", high, text, 2);
    weights.resnet("mid_block.resnets.1", high, high, Some(time));
    weights.resnet("up_blocks.0.resnets.0", high + high, high, Some(time));
    weights.resnet("up_blocks.0.resnets.1", high + low, high, Some(time));
    weights.conv("up_blocks.0.upsamplers.0.conv", high, high, 3);
    weights.resnet("up_blocks.1.resnets.0", high + low, low, Some(time));
    weights.resnet("up_blocks.1.resnets.1", low + low, low, Some(time));
    let (down, up, channels, blocks) = if xl { (1, 0, high, 2) } else { (0, 1, low, 1) };
    weights.transformer(&format!("down_blocks.{down}.attentions.0"), channels, text, blocks);
    for i in 0..2 {
        weights.transformer(&format!("up_blocks.{up}.attentions.{i}"), channels, text, blocks);
    }
    weights.norm("conv_norm_out", low);
    weights.conv("conv_out", low, 4, 3);
    weights.save(&dir.join("diffusion_pytorch_model.safetensors"));
}

/// Three blocks, the first with dual attention.
fn transformer(dir: &Path) {
    let [width, head] = WIDTH;
    let config = json!({
        "_class_name": "SD3Transformer2DModel", "sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4,
        "num_layers": 3, "attention_head_dim": head, "num_attention_heads": width / head,
        "joint_attention_dim": CONTEXT, "caption_projection_dim": width, "pooled_projection_dim": 2 * TEXT,
        "pos_embed_max_size": POSITIONS, "qk_norm": "rms_norm", "dual_attention_layers": [0],
    });
    put(dir, "config.json", &config);
    let mut weights = Weights::default();
    weights.conv("pos_embed.proj", 4, width, 2);
    weights.add("pos_embed.pos_embed", &[1, POSITIONS * POSITIONS, width]);
    for (name, inputs) in [("timestep_embedder", 256), ("text_embedder", 2 * TEXT)] {
        weights.linear(&format!("time_text_embed.{name}.linear_1"), inputs, width, true);
        weights.linear(&format!("time_text_embed.{name}.linear_2"), width, width, true);
    }
    weights.linear("context_embedder", CONTEXT, width, true);
    for i in 0..3 {
        let (block, dual, last) = (format!("transformer_blocks.{i}"), i == 0, i == 2);
        weights.linear(&format!("{block}.norm1.linear"), width, if dual { 9 } else { 6 } * width, true);
        weights.linear(&format!("{block}.norm1_context.linear"), width, if last { 2 } else { 6 } * width, true);
        let image = ["to_q", "to_k", "to_v", "to_out.0"];
        let text = ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"];
        let mut attention = |name: &str, projections: &[&str], norms: &[&str]| {
            for projection in projections {
                weights.linear(&format!("{block}.{name}.{projection}"), width, width, true);
            }
            for norm in norms {
                weights.add(&format!("{block}.{name}.{norm}.weight"), &[head]);
            }
        };
        attention("attn", &image, &["norm_q", "norm_k"]);
        attention("attn", if last { &text[..3] } else { &text }, &["norm_added_q", "norm_added_k"]);
        if dual {
            attention("attn2", &image, &["norm_q", "norm_k"]);
        }
        for feed in if last { &["ff"][..] } else { &["ff", "ff_context"] } {
            weights.linear(&format!("{block}.{feed}.net.0.proj"), width, 4 * width, true);
            weights.linear(&format!("{block}.{feed}.net.2"), 4 * width, width, true);
        }
    }
    weights.linear("norm_out.linear", width, 2 * width, true);
    weights.linear("proj_out", width, 16, true);
    weights.save(&dir.join("diffusion_pytorch_model.safetensors"));
}
