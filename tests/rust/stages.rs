//! The folders of `src` are stages; a stage may name only stages before it, and the support files.

use std::fs;
use std::path::Path;

/// In the order that data flows.
const STAGES: [&str; 9] =
    ["checkpoint", "encode", "noise", "deltas", "backbone", "pooling", "score", "train", "generate"];

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

#[test]
fn a_stage_uses_only_stages_before_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (position, stage) in STAGES.iter().enumerate() {
        let files = sources(&src.join(stage));
        assert!(!files.is_empty(), "{stage} has no sources");
        for (path, text) in files {
            for later in &STAGES[position + 1..] {
                assert!(!text.contains(&format!("crate::{later}")), "{path} names the later stage {later}");
            }
            assert!(!text.contains("crate::bindings"), "{path} names the bindings");
        }
    }
}

#[test]
fn only_the_bindings_name_pyo3() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut named = 0;
    for (path, text) in sources(&src) {
        if text.contains("pyo3::") {
            assert!(path.contains("bindings"), "{path} names pyo3");
            named += 1;
        }
    }
    assert!(named > 0);
}
