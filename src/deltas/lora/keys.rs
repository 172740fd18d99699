//! The keys of LoRA files, in every published layout.

/// The prefix that peft adds to the names of the model it wraps.
pub(super) const PEFT_PREFIX: &str = "base_model.model.";

/// One half of a low-rank pair, or its scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// `A` `[r, in]`.
    Down,
    /// `B` `[out, r]`.
    Up,
    /// `α`, a number; the product is scaled by `α/r`.
    Alpha,
}

/// The module path (`down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k`, `….to_out.0` in a UNet,
/// `transformer_blocks.0.attn.add_k_proj` in a transformer) and the half that a key stands for; `None` if it is not one of
/// an attention projection that deltas can be added to.
pub fn parse(key: &str) -> Option<(String, Half)> {
    let key = match key.strip_prefix("lora_unet_") {
        Some(key) => dotted(key)?,
        None => {
            let key = key.strip_prefix(PEFT_PREFIX).unwrap_or(key);
            let key = ["unet.", "transformer."].iter().find_map(|network| key.strip_prefix(network)).unwrap_or(key);
            if key.starts_with(JOINT) {
                return joint(key);
            }
            key.replacen(".processor.", ".", 1)
        }
    };
    let parts: Vec<&str> = key.split('.').collect();
    let attention = parts.iter().position(|part| ["attn1", "attn2"].contains(part))?;
    let (block, rest) = parts.split_at(attention);
    match block {
        ["down_blocks" | "up_blocks", b, "attentions", l, "transformer_blocks", t]
            if number(b) && number(l) && number(t) => {}
        ["mid_block", "attentions", l, "transformer_blocks", t] if number(l) && number(t) => {}
        _ => return None,
    }
    let (projection, half) = match &rest[1..] {
        ["to_q_lora", half @ ..] => ("to_q", old_half(half)?),
        ["to_k_lora", half @ ..] => ("to_k", old_half(half)?),
        ["to_v_lora", half @ ..] => ("to_v", old_half(half)?),
        ["to_out_lora", half @ ..] => ("to_out.0", old_half(half)?),
        [name @ ("to_q" | "to_k" | "to_v"), half @ ..] => (*name, new_half(half)?),
        ["to_out", "0", half @ ..] => ("to_out.0", new_half(half)?),
        _ => return None,
    };
    Some((format!("{}.{}.{projection}", block.join("."), rest[0]), half))
}

/// How keys of a transformer with joint attention begin.
const JOINT: &str = "transformer_blocks.";

/// A key of a transformer with joint attention, in the layouts of current diffusers and of peft.
fn joint(key: &str) -> Option<(String, Half)> {
    let parts: Vec<&str> = key.split('.').collect();
    let ["transformer_blocks", block, "attn", rest @ ..] = &parts[..] else { return None };
    let (projection, half) = match rest {
        ["to_out", "0", half @ ..] => ("to_out.0", half),
        [name, half @ ..] => (*name, half),
        [] => return None,
    };
    let known = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"];
    if !number(block) || !known.contains(&projection) {
        return None;
    }
    Some((format!("{JOINT}{block}.attn.{projection}"), new_half(half)?))
}

fn number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// A key of kohya, which has `_` instead of `.` in the module's name, with dots.
fn dotted(key: &str) -> Option<String> {
    let (module, half) = key.split_once('.')?;
    let mut module = module.replace('_', ".");
    for word in ["down_blocks", "mid_block", "up_blocks", "transformer_blocks", "to_q", "to_k", "to_v", "to_out"] {
        module = module.replace(&word.replace('_', "."), word);
    }
    Some(format!("{module}.{half}"))
}

/// Behind `to_k_lora`, a module of the attention processor.
fn old_half(parts: &[&str]) -> Option<Half> {
    match parts {
        ["down", "weight"] => Some(Half::Down),
        ["up", "weight"] => Some(Half::Up),
        ["alpha"] => Some(Half::Alpha),
        _ => None,
    }
}

/// Behind `to_k`; peft puts the adapter's name before `weight` in a model's own state dict.
fn new_half(parts: &[&str]) -> Option<Half> {
    match parts {
        ["lora_A", "weight"] | ["lora_A", _, "weight"] => Some(Half::Down),
        ["lora_B", "weight"] | ["lora_B", _, "weight"] => Some(Half::Up),
        ["lora", "down", "weight"] | ["lora_down", "weight"] => Some(Half::Down),
        ["lora", "up", "weight"] | ["lora_up", "weight"] => Some(Half::Up),
        ["alpha"] | ["lora", "alpha"] => Some(Half::Alpha),
        _ => None,
    }
}
