//! Weights by path and shape, configurations with errors that name the file and the field. Whole models are tested
//! from Python (`tests/parity`).

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use discffusion::checkpoint::{Checkpoint, Weights};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tch::{Device, Kind};
use tempfile::tempdir;

fn write(path: &Path, tensors: &[(&str, &[usize])]) {
    let zeros: Vec<Vec<u8>> = tensors.iter().map(|(_, shape)| vec![0; 4 * shape.iter().product::<usize>()]).collect();
    let views: HashMap<&str, TensorView> = tensors
        .iter()
        .zip(&zeros)
        .map(|((name, shape), data)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap()))
        .collect();
    serialize_to_file(views, None, path).unwrap();
}

fn open(part: &Path, variant: Option<&str>) -> discffusion::Result<Weights> {
    Weights::open(part, "model", variant, Device::Cpu, Kind::Float)
}

#[test]
fn missing_misshaped_and_left_over_weights_are_named() {
    let dir = tempdir().unwrap();
    write(&dir.path().join("model.safetensors"), &[("a.weight", &[2, 3]), ("b.bias", &[4])]);
    let weights = open(dir.path(), None).unwrap();
    let a = &weights.root() / "a";
    assert_eq!(a.get("weight", &[2, 3]).unwrap().size(), [2, 3]);
    let misshaped = a.get("weight", &[3, 2]).unwrap_err().to_string();
    assert!(
        misshaped.contains("a.weight") && misshaped.contains("[2, 3]") && misshaped.contains("[3, 2]"),
        "{misshaped}"
    );
    let missing = a.get("bias", &[2]).unwrap_err().to_string();
    assert!(missing.contains("a.bias") && missing.contains("missing"), "{missing}");
    let left = weights.finish(|_| false).unwrap_err().to_string();
    assert!(left.contains("b.bias"), "{left}");
    weights.finish(|key| key == "b.bias").unwrap();
    assert_eq!(weights.parameters_used(), 6);
}

#[test]
fn shards_and_variants() {
    let dir = tempdir().unwrap();
    let shard = |i| format!("model-0000{i}-of-00002.safetensors");
    write(&dir.path().join(shard(1)), &[("a", &[1])]);
    write(&dir.path().join(shard(2)), &[("b", &[2])]);
    let index = serde_json::json!({"metadata": {}, "weight_map": {"a": shard(1), "b": shard(2)}});
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let weights = open(dir.path(), None).unwrap();
    assert!(weights.root().has("a") && weights.root().has("b"));

    write(&dir.path().join("model.fp16.safetensors"), &[("half", &[1])]);
    assert!(open(dir.path(), Some("fp16")).unwrap().root().has("half"));
    // A part without the variant is still complete.
    assert!(open(dir.path(), Some("ema")).unwrap().root().has("a"));
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    let dir = tempdir().unwrap();
    for name in ["../evil.safetensors", "/etc/passwd", ".."] {
        let index = serde_json::json!({"weight_map": {"a": name}});
        fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        let error = open(dir.path(), None).err().expect(name).to_string();
        assert!(error.contains("plain file name"), "{error}");
    }
}

#[test]
fn corrupt_weights_are_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, &[("a", &[64])]);
    let whole = fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() - 1], &whole[..20], &[][..], &[0xff; 64][..]] {
        fs::write(&path, bytes).unwrap();
        let error = open(dir.path(), None).err().expect("refused").to_string();
        assert!(error.contains("model.safetensors"), "{error}");
    }
}

#[test]
fn an_incomplete_folder_names_what_is_missing() {
    let dir = tempdir().unwrap();
    let error = Checkpoint::open(dir.path(), None).err().unwrap().to_string();
    assert!(error.contains("model_index.json"), "{error}");
    let error = Checkpoint::open(&dir.path().join("nowhere"), None).err().unwrap();
    assert_eq!(error.kind(), "CheckpointError");
}
