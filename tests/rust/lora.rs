//! LoRA files of others: pairs and their scale, and what is refused and why.

mod export;
mod keys;

use std::collections::HashMap;

use approx::assert_relative_eq;
use discffusion::deltas::lora::{PEFT_CONFIG, read};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

const BLOCK: &str = "down_blocks.0.attentions.1.transformer_blocks.0";
const KOHYA: &str = "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0";

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn scalar(value: f64) -> Tensor {
    Tensor::from(value).to_kind(Kind::Float)
}

fn none() -> HashMap<String, String> {
    HashMap::new()
}

fn metadata(key: &str, value: Value) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_string())])
}

/// `‖a − b‖ / ‖b‖`.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).norm().double_value(&[]) / b.norm().double_value(&[])
}

fn refused(tensors: &[(&str, &[i64])], metadata: &HashMap<String, String>) -> String {
    let tensors = tensors.iter().map(|(key, shape)| (key.to_string(), random(shape))).collect();
    let error = read(tensors, metadata).expect_err("refused");
    assert_eq!(error.kind(), "DeltasError");
    error.to_string()
}

/// One pair `[4, 6]`, `[8, 4]` under the given names, and what `read` makes of it.
fn scaled(names: [&str; 2], alpha: Option<(&str, Tensor)>, metadata: &HashMap<String, String>) -> (f64, Tensor) {
    let (down, up) = (random(&[4, 6]), random(&[8, 4]));
    let mut tensors = vec![(names[0].to_owned(), down.copy()), (names[1].to_owned(), up.copy())];
    tensors.extend(alpha.map(|(key, value)| (key.to_owned(), value)));
    let pairs = read(tensors, metadata).expect("a complete pair");
    let (path, (found_down, found_up)) = pairs.into_iter().next().expect("one pair");
    assert_eq!(path, format!("{BLOCK}.attn2.to_k"));
    assert_eq!(found_down, down);
    let scale = (&found_up * &up).sum(Kind::Double).double_value(&[]) / up.square().sum(Kind::Double).double_value(&[]);
    assert!(relative(&found_up, &(up * scale)) < 1e-6);
    (scale, found_up)
}

#[test]
fn alpha_scales_the_upper_half() {
    let diffusers =
        [format!("unet.{BLOCK}.attn2.to_k.lora_A.weight"), format!("unet.{BLOCK}.attn2.to_k.lora_B.weight")];
    let diffusers = diffusers.each_ref().map(String::as_str);
    let plain = diffusers.map(|key| key.strip_prefix("unet.").expect("has the prefix"));
    let peft = plain.map(|key| format!("base_model.model.{key}"));
    let peft = peft.each_ref().map(String::as_str);
    let kohya = ["lora_down", "lora_up"].map(|half| format!("{KOHYA}_attn2_to_k.{half}.weight"));
    let kohya = kohya.each_ref().map(String::as_str);
    let check = |(scale, _): (f64, Tensor), expected| assert_relative_eq!(scale, expected, max_relative = 1e-6);

    // Of its own: any type of number, with or without an axis.
    let alpha = format!("{KOHYA}_attn2_to_k.alpha");
    check(scaled(kohya, None, &none()), 1.0);
    check(scaled(kohya, Some((&alpha, scalar(2.0))), &none()), 0.5);
    check(scaled(kohya, Some((&alpha, Tensor::from_slice(&[1i64]))), &none()), 0.25);
    check(scaled(kohya, Some((&alpha, scalar(16.0).to_kind(Kind::Half))), &none()), 4.0);
    check(scaled(diffusers, Some((&format!("unet.{BLOCK}.attn2.to_k.alpha"), scalar(1.0))), &none()), 0.25);

    // diffusers' metadata, with and without the model's name.
    let config = |value| metadata("lora_adapter_metadata", value);
    check(scaled(diffusers, None, &none()), 1.0);
    check(scaled(diffusers, None, &config(json!({"unet.r": 4, "unet.lora_alpha": 8}))), 2.0);
    check(scaled(plain, None, &config(json!({"r": 4, "lora_alpha": 6.0}))), 1.5);
    let patterns = |patterns: Value| config(json!({"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": patterns}));
    check(scaled(diffusers, None, &patterns(json!({"attn2.to_k": 1, "attn2.to_q": 3}))), 0.25);
    check(scaled(diffusers, None, &patterns(json!({format!("^{BLOCK}.attn2.to_k"): 1}))), 0.25);
    check(scaled(diffusers, None, &patterns(json!({"attn2\\.to_k": 1}))), 0.25);
    check(scaled(diffusers, None, &patterns(json!({"attn2.to_k": 1, "to_k": 2}))), 0.25);
    check(scaled(diffusers, None, &patterns(json!({"^attn2.to_k": 1, "2.to_k": 1, "to_v": 1}))), 2.0);
    check(scaled(diffusers, None, &config(json!({"unet.lora_alpha": 8, "unet.use_rslora": true}))), 4.0);

    // peft's file beside the weights, which says nothing about keys that are not peft's.
    let config = |alpha: i64| metadata(PEFT_CONFIG, json!({"r": 4, "lora_alpha": alpha, "peft_type": "LORA"}));
    check(scaled(peft, None, &config(2)), 0.5);
    check(scaled(diffusers, None, &config(2)), 1.0);
}

#[test]
fn halves_of_any_form_become_float32_matrices() {
    let key = |half| format!("unet.{BLOCK}.attn2.to_k.lora.{half}.weight");
    for kind in [Kind::Half, Kind::BFloat16, Kind::Float, Kind::Double] {
        let (down, up) = (random(&[2, 6]).to_kind(kind), random(&[8, 2]).to_kind(kind));
        let tensors = vec![(key("down"), down.view([2, 6, 1, 1])), (key("up"), up.view([8, 2, 1, 1]))];
        let pairs = read(tensors, &none()).unwrap();
        let (found_down, found_up) = &pairs[&format!("{BLOCK}.attn2.to_k")];
        assert_eq!((found_down.kind(), found_up.kind()), (Kind::Float, Kind::Float));
        assert_eq!(*found_down, down.to_kind(Kind::Float));
        assert_eq!(*found_up, up.to_kind(Kind::Float));
    }
}

#[test]
fn what_is_refused_is_named() {
    let (a, b) = (format!("unet.{BLOCK}.attn2.to_k.lora_A.weight"), format!("unet.{BLOCK}.attn2.to_k.lora_B.weight"));
    type Named<'a> = (&'a str, &'a [i64]);
    let (pair_a, pair_b): (Named, Named) = ((&a, &[4, 6]), (&b, &[8, 4]));

    let others = ["ff.net.0.proj", "ff.net.2", "norm1"].map(|module| format!("unet.{BLOCK}.{module}.lora_A.weight"));
    let message = refused(&[pair_a, pair_b, (&others[0], &[4, 6])], &none());
    assert!(message.contains(&others[0]) && message.contains("1 key") && message.contains("to_out"), "{message}");
    let dora = format!("unet.{BLOCK}.attn2.to_k.lora_magnitude_vector");
    let all: Vec<(&str, &[i64])> = others.iter().chain([&dora]).map(|key| (key.as_str(), &[4][..])).collect();
    let message = refused(&all, &none());
    assert!(others.iter().all(|key| message.contains(key)) && message.contains("4 key"), "{message}");
    assert!(message.contains('…') && !message.contains(&dora), "the first few: {message}");

    for (held, lost) in [(pair_a, pair_b), (pair_b, pair_a)] {
        let message = refused(&[held], &none());
        assert!(message.contains(held.0) && !message.contains(lost.0) && message.contains("half"), "{message}");
    }
    let alpha = format!("unet.{BLOCK}.attn2.to_k.alpha");
    assert!(refused(&[(&alpha, &[])], &none()).contains(&alpha));
    let message = refused(&[pair_a, pair_b, (&alpha, &[2])], &none());
    assert!(message.contains(&alpha) && message.contains("[2]"), "{message}");

    let other_name = format!("{BLOCK}.attn2.processor.to_k_lora.down.weight");
    let message = refused(&[pair_a, pair_b, (&other_name, &[4, 6])], &none());
    assert!(message.contains(&other_name) && message.contains(&a), "{message}");

    for shape in [&[8, 5][..], &[4, 8], &[8, 4, 3, 3], &[8], &[]] {
        let message = refused(&[pair_a, (&b, shape)], &none());
        assert!(message.contains(&b) && message.contains(&format!("{shape:?}")), "{message}");
    }
    assert!(refused(&[(&a, &[0, 6]), (&b, &[8, 0])], &none()).contains(&a));
    let whole = vec![(a.clone(), random(&[4, 6]).to_kind(Kind::Int64)), (b.clone(), random(&[8, 4]))];
    let message = read(whole, &none()).unwrap_err().to_string();
    assert!(message.contains(&a) && message.contains("Int64"), "{message}");
}

#[test]
fn a_scale_that_cannot_be_known_is_refused() {
    let key = |prefix, half| format!("{prefix}{BLOCK}.attn2.to_k.lora_{half}.weight");
    let refuse = |prefix, metadata: &HashMap<String, String>| {
        refused(&[(&key(prefix, "A"), &[4, 6]), (&key(prefix, "B"), &[8, 4])], metadata)
    };
    let message = refuse("base_model.model.", &none());
    assert!(message.contains("adapter_config.json") && message.contains(BLOCK), "{message}");
    let broken = HashMap::from([("lora_adapter_metadata".to_owned(), "{".to_owned())]);
    assert!(refuse("unet.", &broken).contains("lora_adapter_metadata"));
    for config in [json!({"r": 4}), json!({"lora_alpha": "8"}), json!([8])] {
        let message = refuse("unet.", &metadata("lora_adapter_metadata", config));
        assert!(message.contains("lora_alpha") && message.contains(BLOCK), "{message}");
    }
    let regular = json!({"lora_alpha": 8, "alpha_pattern": {"attn[12].to_k": 2}});
    let message = refuse("unet.", &metadata("lora_adapter_metadata", regular));
    assert!(message.contains("attn[12].to_k"), "{message}");
}
