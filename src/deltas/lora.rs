//! LoRA files, in the layouts of the paper's authors and old diffusers, of current diffusers, of peft and of kohya.

mod keys;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

pub use keys::{Half, parse};

use crate::runtime::check_interrupt;
use crate::{Error, Result};

/// The metadata key under which diffusers stores rank and alpha, as JSON.
const DIFFUSERS_CONFIG: &str = "lora_adapter_metadata";
/// The metadata key under which [`read`] expects the text of peft's `adapter_config.json`, a file beside the weights.
pub const PEFT_CONFIG: &str = "adapter_config";

/// Module path → `A` (`down`) `[r, in]` and `B` (`up`) `[out, r]`, float32, with `p = B A`.
pub type Pairs = BTreeMap<String, (Tensor, Tensor)>;

/// The library for which a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One file for `pipeline.load_lora_weights`.
    Diffusers,
    /// `adapter_model.safetensors` for `PeftModel.from_pretrained`, with [`peft_config`] beside it.
    Peft,
}

/// The pairs of a LoRA file; `up` is multiplied by `alpha / r`.
///
/// Alpha is a tensor of its own, or in the metadata: diffusers' `lora_adapter_metadata`, or for peft's keys the text of
/// its `adapter_config.json` under [`PEFT_CONFIG`]. The default is `r`.
///
/// # Errors
/// `Deltas`, naming the keys, unless every key is understood and every pair complete.
pub fn read(tensors: Vec<(String, Tensor)>, metadata: &HashMap<String, String>) -> Result<Pairs> {
    let unknown: Vec<&str> = (tensors.iter()).map(|(key, _)| key.as_str()).filter(|key| parse(key).is_none()).collect();
    if !unknown.is_empty() {
        let (shown, more) = (unknown[..unknown.len().min(3)].join(", "), if unknown.len() > 3 { ", …" } else { "" });
        return Err(Error::Deltas(format!(
            "holds {} key(s) that cannot be used: {shown}{more}. Deltas live in the attention projections of the denoising \
             network only (to_q, to_k, to_v and to_out; in joint attention also add_q_proj, add_k_proj, add_v_proj and \
             to_add_out), as plain LoRA, and not in a text encoder; expected keys such as \
             unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight or \
             transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight, so train or export the LoRA for these modules \
             alone",
            unknown.len()
        )));
    }
    let mut found: BTreeMap<String, [Option<(String, Tensor)>; 3]> = BTreeMap::new();
    for (key, tensor) in tensors {
        let (path, half) = parse(&key).expect("unknown keys were refused above");
        let place = &mut found.entry(path).or_default()[half as usize];
        if let Some((other, _)) = place {
            return Err(Error::Deltas(format!("holds {other} and {key}, which mean the same; keep one adapter")));
        }
        *place = Some((key, tensor));
    }
    let (diffusers, peft) = (config(metadata, DIFFUSERS_CONFIG)?, config(metadata, PEFT_CONFIG)?);
    let mut pairs = Pairs::new();
    for (path, halves) in found {
        let (down_key, down, up_key, up, alpha) = match halves {
            [Some((down_key, down)), Some((up_key, up)), alpha] => (down_key, down, up_key, up, alpha),
            [Some((key, _)), None, _] | [None, Some((key, _)), _] => {
                return Err(Error::Deltas(format!("holds {key} without its other half; the file is incomplete")));
            }
            [None, None, alpha] => {
                let key = alpha.map_or(path, |(key, _)| key);
                return Err(Error::Deltas(format!("holds {key} without the pair it scales; the file is incomplete")));
            }
        };
        let (down, up) = (matrix(&down_key, &down)?, matrix(&up_key, &up)?);
        let rank = down.size()[0];
        if rank == 0 || rank != up.size()[1] {
            return Err(Error::Deltas(format!(
                "holds {down_key} {:?} and {up_key} {:?}; expected [r, in] and [out, r]",
                down.size(),
                up.size()
            )));
        }
        let scale = if let Some((key, alpha)) = alpha {
            single(&key, &alpha)? / rank as f64
        } else if let Some(config) = &diffusers {
            scale(DIFFUSERS_CONFIG, config, &path, rank)?
        } else if down_key.starts_with(keys::PEFT_PREFIX) {
            let config = peft.as_ref().ok_or_else(|| {
                Error::Deltas(format!(
                    "holds {down_key}, a key of peft's, but not its scale, which peft keeps in adapter_config.json; \
                     put that file beside it"
                ))
            })?;
            scale("adapter_config.json", config, &path, rank)?
        } else {
            1.0
        };
        pairs.insert(path, (down, up * scale));
    }
    Ok(pairs)
}

/// A half as a float32 matrix. Halves of 1×1 convolutions, which SD 1.x files of some trainers have, lose their two
/// trailing axes.
fn matrix(key: &str, tensor: &Tensor) -> Result<Tensor> {
    match tensor.size()[..] {
        [rows, columns] | [rows, columns, 1, 1] if tensor.is_floating_point() => {
            Ok(tensor.to_kind(Kind::Float).reshape([rows, columns]))
        }
        _ => Err(Error::Deltas(format!(
            "holds {key} as {:?} {:?}; expected a matrix of floating-point numbers, or one with two trailing ones",
            tensor.kind(),
            tensor.size()
        ))),
    }
}

fn single(key: &str, tensor: &Tensor) -> Result<f64> {
    if tensor.numel() != 1 {
        return Err(Error::Deltas(format!("holds {key} {:?}; expected a single number", tensor.size())));
    }
    Ok(tensor.to_kind(Kind::Double).reshape([1]).double_value(&[0]))
}

fn config(metadata: &HashMap<String, String>, key: &str) -> Result<Option<Value>> {
    let parse = |text: &String| {
        serde_json::from_str(text)
            .map_err(|why| Error::Deltas(format!("has a malformed {key} in its metadata ({why})")))
    };
    metadata.get(key).map(parse).transpose()
}

/// `alpha / r` of one module by peft's LoraConfig, whose fields diffusers prefixes with the model's name.
fn scale(named: &str, config: &Value, path: &str, rank: i64) -> Result<f64> {
    let wrong = |what: &str| Error::Deltas(format!("has {what} in its {named}"));
    let prefixed = |network: &str, name: &str| config.get(format!("{network}.{name}"));
    let field =
        |name: &str| prefixed("unet", name).or_else(|| prefixed("transformer", name)).or_else(|| config.get(name));
    let mut alpha = field("lora_alpha");
    // Both write their patterns sorted, as this map is, and the first that fits counts.
    for (pattern, value) in field("alpha_pattern").and_then(Value::as_object).into_iter().flatten() {
        if fits(pattern, path).ok_or_else(|| {
            wrong(&format!("the alpha_pattern {pattern:?}, a regular expression; expected names of modules"))
        })? {
            alpha = Some(value);
            break;
        }
    }
    let alpha = alpha.and_then(Value::as_f64).ok_or_else(|| wrong(&format!("no number as lora_alpha for {path}")))?;
    let square_root = field("use_rslora").and_then(Value::as_bool) == Some(true);
    Ok(alpha / if square_root { (rank as f64).sqrt() } else { rank as f64 })
}

/// Whether a pattern of peft matches a module: a pattern that begins with `^` its whole path, any other the end of it.
/// `None` if the pattern uses more of the syntax of regular expressions.
fn fits(pattern: &str, path: &str) -> Option<bool> {
    let plain = pattern.replace("\\.", ".");
    let (plain, whole) = match plain.strip_prefix('^') {
        Some(plain) => (plain, true),
        None => (plain.as_str(), false),
    };
    if !plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return None;
    }
    Some(path.strip_suffix(plain).is_some_and(|before| before.is_empty() || !whole && before.ends_with('.')))
}

/// Names and tensors of an exported file, and its metadata. Alpha is the rank, so the pairs are used as they are.
/// `network` is the network's name in diffusers: `unet`, `transformer`.
pub fn write(pairs: &Pairs, format: Format, network: &str) -> (Vec<(String, Tensor)>, HashMap<String, String>) {
    let prefix = match format {
        Format::Diffusers => &format!("{network}."),
        Format::Peft => keys::PEFT_PREFIX,
    };
    let tensors = pairs.iter().flat_map(|(path, (down, up))| {
        [("A", down), ("B", up)].map(|(half, tensor)| {
            (format!("{prefix}{path}.lora_{half}.weight"), tensor.to_device(Device::Cpu).to_kind(Kind::Float))
        })
    });
    let mut metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    if format == Format::Diffusers {
        let config: BTreeMap<String, Value> =
            shape(pairs).into_iter().map(|(key, value)| (format!("{network}.{key}"), value)).collect();
        metadata.insert(DIFFUSERS_CONFIG.into(), json!(config).to_string());
    }
    (tensors.collect(), metadata)
}

/// The contents of peft's `adapter_config.json`.
pub fn peft_config(pairs: &Pairs) -> Value {
    let mut config = shape(pairs);
    config.extend([
        ("peft_type", json!("LORA")),
        ("task_type", Value::Null),
        ("base_model_name_or_path", Value::Null),
        ("inference_mode", json!(true)),
        ("lora_dropout", json!(0.0)),
        ("bias", json!("none")),
        ("fan_in_fan_out", json!(false)),
        ("use_rslora", json!(false)),
        ("use_dora", json!(false)),
    ]);
    json!(config)
}

/// The fields of peft's LoraConfig with the modules and ranks of the pairs: the most common rank, and the exceptions.
fn shape(pairs: &Pairs) -> BTreeMap<&'static str, Value> {
    let ranks: BTreeMap<&str, i64> = pairs.iter().map(|(path, (down, _))| (path.as_str(), down.size()[0])).collect();
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    ranks.values().for_each(|&rank| *counts.entry(rank).or_default() += 1);
    let common = counts.into_iter().max_by_key(|&(_, count)| count).map_or(1, |(rank, _)| rank);
    let others: BTreeMap<&str, i64> =
        ranks.iter().map(|(&path, &rank)| (path, rank)).filter(|&(_, r)| r != common).collect();
    BTreeMap::from([
        ("r", json!(common)),
        ("lora_alpha", json!(common)),
        ("rank_pattern", json!(others)),
        ("alpha_pattern", json!(others)),
        ("target_modules", json!(ranks.keys().collect::<Vec<_>>())),
    ])
}

/// The best approximation of rank `r` of a delta `p` `[out, in]`: `down` `[r, in]`, `up` `[out, r]`, and the relative
/// error `‖p − B A‖ / ‖p‖`. It is exact if `rank` is `None` or at least the full rank.
///
/// # Errors
/// `Interrupted`, if the user asked for it.
pub fn factor(dense: &Tensor, rank: Option<i64>) -> Result<(Tensor, Tensor, f64)> {
    let dense = dense.to_device(Device::Cpu).to_kind(Kind::Float);
    let (outputs, inputs) = dense.size2().expect("a delta is a matrix");
    let full = outputs.min(inputs);
    let one = |size: i64| Tensor::eye(size, (Kind::Float, Device::Cpu));
    let Some(rank) = rank.map(|rank| rank.max(1)).filter(|&rank| rank < full) else {
        // Full rank: the delta itself, without rounding.
        let (down, up) = if outputs <= inputs { (dense, one(outputs)) } else { (one(inputs), dense) };
        return Ok((down, up, 0.0));
    };
    check_interrupt()?;
    // The leading singular vectors of the shorter side, as eigenvectors of p pᵀ or pᵀ p: a fifth of the time of all
    // singular values, and as exact, since what double precision loses by squaring is far below float32's last place.
    let p = dense.to_kind(Kind::Double);
    let wide = outputs <= inputs;
    let (_, vectors) = (if wide { p.matmul(&p.tr()) } else { p.tr().matmul(&p) }).linalg_eigh("L");
    check_interrupt()?;
    let own = vectors.narrow(1, full - rank, rank).flip([1]);
    // σ times the vectors of the other side.
    let other = if wide { p.tr().matmul(&own) } else { p.matmul(&own) };
    let root = other.norm_scalaropt_dim(2.0, [0i64].as_slice(), true).sqrt();
    // The singular values are divided between the halves, so that neither overflows in half precision.
    let (own, other) = (own * &root, other / root.clamp_min(f64::MIN_POSITIVE));
    let (up, down) = if wide { (own, other) } else { (other, own) };
    let (up, down) = (up.contiguous().to_kind(Kind::Float), down.tr().contiguous().to_kind(Kind::Float));
    let lost = &p - up.to_kind(Kind::Double).matmul(&down.to_kind(Kind::Double));
    let norm = |tensor: &Tensor| tensor.norm().double_value(&[]);
    let error = if norm(&p) > 0.0 { norm(&lost) / norm(&p) } else { 0.0 };
    Ok((down, up, error))
}
