//! The folders of `src` are rooms in one order; a room may name only rooms before it.

use std::fs;
use std::path::Path;

/// In order. The bindings come last and are named by nothing.
const ROOMS: [&str; 17] = [
    "error",
    "config",
    "runtime",
    "kernels",
    "device",
    "checkpoint",
    "nn",
    "encode",
    "noise",
    "pooling",
    "deltas",
    "denoiser",
    "families",
    "model",
    "score",
    "train",
    "generate",
];

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

fn src() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms that a source names, but for what its documentation says.
fn named(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let of_line = |line: &str| {
        let names = line.match_indices("crate::").map(|(at, sign)| {
            line[at + sign.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
        });
        names.collect::<Vec<_>>()
    };
    code.flat_map(of_line).collect()
}

#[test]
fn every_folder_is_a_room() {
    let mut found: Vec<String> = fs::read_dir(src())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !["lib", "bindings"].contains(&name.as_str()))
        .collect();
    found.sort();
    let mut rooms = ROOMS.to_vec();
    rooms.sort_unstable();
    assert_eq!(found, rooms);
}

#[test]
fn a_room_uses_only_rooms_before_it() {
    for (position, room) in ROOMS.iter().enumerate() {
        let folder = src().join(room);
        let files = if folder.is_dir() { sources(&folder) } else { vec![] };
        assert!(folder.is_dir() != files.is_empty(), "{room} has no sources");
        for (path, text) in files {
            for other in named(&text) {
                let later = ROOMS[position + 1..].contains(&other.as_str()) || other == "bindings";
                assert!(!later, "{path} names the later room {other}");
            }
        }
    }
}

#[test]
fn only_the_bindings_name_pyo3() {
    let mut named = 0;
    for (path, text) in sources(&src()) {
        if text.contains("pyo3::") {
            assert!(path.contains("bindings"), "{path} names pyo3");
            named += 1;
        }
    }
    assert!(named > 0);
}

#[test]
fn a_models_methods_are_in_three_places() {
    let files: Vec<String> =
        sources(&src()).into_iter().filter(|(_, text)| text.contains("\nimpl Model {")).map(|(path, _)| path).collect();
    assert!(files.len() <= 3, "{files:?}");
}

#[test]
fn no_source_is_longer_than_400_lines() {
    for (path, text) in sources(&src()) {
        assert!(text.lines().count() <= 400, "{path}");
    }
}

/// What knows of a family by name is in its folder, but for the layouts of LoRA files, which go by a UNet's names.
#[test]
fn families_are_named_nowhere_else() {
    let others = |path: &str| !path.contains("/families/") && !path.contains("/deltas/lora");
    for (path, text) in sources(&src()).into_iter().filter(|(path, _)| others(path)) {
        for name in ["UNet2DConditionModel", "transformer_blocks", "stable_diffusion::"] {
            let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            assert!(!code.iter().any(|line| line.contains(name)), "{path} names {name}");
        }
    }
}
