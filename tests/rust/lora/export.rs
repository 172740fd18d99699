//! The way out: files for diffusers and peft, and dense deltas as pairs.

use std::time::{Duration, Instant};

use approx::assert_relative_eq;
use discffusion::Error;
use discffusion::deltas::lora::{Format, PEFT_CONFIG, Pairs, factor, peft_config, read, write};
use discffusion::runtime::guarded;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::{BLOCK, random, relative};

fn pairs_of_ranks(ranks: &[(&str, i64)]) -> Pairs {
    let pair = |&(module, rank): &(&str, i64)| (format!("{BLOCK}.{module}"), (random(&[rank, 6]), random(&[8, rank])));
    ranks.iter().map(pair).collect()
}

#[test]
fn what_is_written_is_read_again() {
    tch::manual_seed(1);
    let pairs = pairs_of_ranks(&[("attn2.to_k", 4), ("attn2.to_out.0", 2), ("attn1.to_q", 2), ("attn2.to_v", 6)]);
    for (format, prefix) in [(Format::Diffusers, "unet."), (Format::Peft, "base_model.model.")] {
        let (tensors, mut metadata) = write(&pairs, format, "unet");
        assert_eq!(tensors.len(), 8);
        assert_eq!(metadata["format"], "pt");
        assert!(tensors.iter().any(|(key, _)| *key == format!("{prefix}{BLOCK}.attn2.to_out.0.lora_B.weight")));
        if format == Format::Peft {
            metadata.insert(PEFT_CONFIG.into(), peft_config(&pairs).to_string());
        }
        // Exactly, through any other module's rank: alpha / r is 1 for every pair.
        assert_eq!(read(tensors, &metadata).unwrap(), pairs);
    }
}

#[test]
fn mixed_ranks_are_described() {
    let pairs = pairs_of_ranks(&[("attn2.to_k", 4), ("attn2.to_out.0", 2), ("attn1.to_q", 2), ("attn2.to_v", 6)]);
    let config = peft_config(&pairs);
    assert_eq!((&config["r"], &config["lora_alpha"], &config["peft_type"]), (&json!(2), &json!(2), &json!("LORA")));
    let others = json!({format!("{BLOCK}.attn2.to_k"): 4, format!("{BLOCK}.attn2.to_v"): 6});
    assert_eq!((&config["rank_pattern"], &config["alpha_pattern"]), (&others, &others));
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 4);
    let (_, metadata) = write(&pairs, Format::Diffusers, "unet");
    let prefixed: Value = serde_json::from_str(&metadata["lora_adapter_metadata"]).unwrap();
    for field in ["r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules"] {
        assert_eq!(prefixed[format!("unet.{field}")], config[field], "{field}");
    }
}

#[test]
fn all_ranks_give_the_delta_back() {
    tch::manual_seed(2);
    for shape in [[24, 40], [40, 24], [16, 16], [1, 9]] {
        let dense = random(&shape);
        let (down, up, error) = factor(&dense, None).unwrap();
        let rank = shape[0].min(shape[1]);
        assert_eq!((down.size(), up.size()), (vec![rank, shape[1]], vec![shape[0], rank]));
        assert_eq!((down.kind(), up.kind()), (Kind::Float, Kind::Float));
        assert!(error < 1e-6 && relative(&up.matmul(&down), &dense) < 1e-6, "{error}");
    }
}

#[test]
fn a_lower_rank_is_the_best_there_is() {
    tch::manual_seed(3);
    let dense = random(&[24, 40]);
    let (_, singular, _) = dense.to_kind(Kind::Double).svd(true, true);
    let total = singular.square().sum(Kind::Double).double_value(&[]);
    for rank in [1, 4, 23] {
        let (down, up, error) = factor(&dense, Some(rank)).unwrap();
        assert_eq!((down.size()[0], up.size()[1]), (rank, rank));
        // Eckart and Young: no pair of this rank loses less than the singular values left out.
        let least = (singular.narrow(0, rank, 24 - rank).square().sum(Kind::Double).double_value(&[]) / total).sqrt();
        assert_relative_eq!(error, least, max_relative = 1e-6);
        assert_relative_eq!(relative(&up.matmul(&down), &dense), least, max_relative = 1e-5);
    }
}

#[test]
fn a_rank_out_of_range_and_a_delta_of_nothing() {
    let dense = random(&[6, 4]);
    for (asked, given) in [(0, 1), (-3, 1), (4, 4), (99, 4)] {
        assert_eq!(factor(&dense, Some(asked)).unwrap().0.size(), [given, 4]);
    }
    let (down, up, error) = factor(&dense.zeros_like(), Some(2)).unwrap();
    assert_eq!(up.matmul(&down), dense.zeros_like());
    assert_eq!(error, 0.0);
    let rank_one = random(&[6, 1]).matmul(&random(&[1, 4]));
    assert!(factor(&rank_one, Some(1)).unwrap().2 < 1e-6);
}

#[test]
fn an_export_is_interrupted_within_a_second() {
    tch::manual_seed(4);
    let dense = random(&[640, 1024]);
    let asked = Instant::now();
    let stopped = guarded(
        || true,
        || loop {
            drop(factor(&dense, Some(8))?);
        },
    );
    let stopped: discffusion::Result<()> = stopped;
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[test]
fn wide_and_tall_deltas_of_a_layer_lose_no_more_than_they_must() {
    tch::manual_seed(5);
    for shape in [[96, 160], [160, 96]] {
        // Singular values that fall by a tenth each, to 4e-5 of the first.
        let (u, _, v) = random(&shape).to_kind(Kind::Double).svd(true, true);
        let singular = Tensor::from_slice(&(0..96).map(|i| 0.9f64.powi(i)).collect::<Vec<_>>());
        let dense = (u * &singular).matmul(&v.tr()).to_kind(Kind::Float);
        for rank in [1, 8, 64] {
            let (down, up, error) = factor(&dense, Some(rank)).unwrap();
            let tail = singular.narrow(0, rank, 96 - rank).norm() / singular.norm();
            assert_relative_eq!(error, tail.double_value(&[]), max_relative = 1e-5);
            assert_relative_eq!(relative(&up.matmul(&down), &dense), error, max_relative = 1e-4);
        }
    }
}
