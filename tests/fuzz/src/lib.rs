//! What the targets share: the door that all of the core is entered by, and files in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use discffusion::deltas::{Architecture, AttentionKind, AttentionLayer, Fingerprint, Projection, Target, TargetWeight};
use discffusion::runtime::guarded;
use discffusion::{Error, Result};
use tempfile::TempDir;

/// Runs `work` as Python would have it run. Typed errors are what bad input should lead to; an internal error is a
/// panic or an exception that nobody thought of, and ends the run as a finding.
pub fn checked<T>(work: impl FnOnce() -> Result<T>) -> Option<T> {
    match guarded(|| false, work) {
        Ok(value) => Some(value),
        Err(Error::Internal(why)) => panic!("an internal error: {why}"),
        Err(_) => None,
    }
}

/// Calls `work` with a folder that stays the same, of files in memory; `files` are written to it first.
pub fn in_folder(files: &[(&str, &[u8])], work: impl FnOnce(&Path)) {
    thread_local!(static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) });
    FOLDER.with_borrow_mut(|kept| {
        let folder = kept.get_or_insert_with(|| tempfile::tempdir_in("/dev/shm").expect("there is memory for files"));
        for (name, bytes) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("there is memory for files");
            std::fs::write(path, bytes).expect("there is memory for files");
        }
        work(folder.path());
    });
}

/// A model of two layers, of no particular weights.
pub fn model() -> (Architecture, Fingerprint) {
    let layer = |name: &str, group: &str, channels| AttentionLayer {
        name: name.into(),
        group: group.into(),
        block: 0,
        heads: 2,
        channels,
    };
    let layers = vec![layer("down.0.0", "down", 4), layer("mid.0", "mid", 6)];
    let mut targets = BTreeMap::new();
    for (layer, (module, channels)) in
        [("down_blocks.0.attentions.0", 4), ("mid_block.attentions.0", 6)].into_iter().enumerate()
    {
        for attention in AttentionKind::ALL {
            for projection in Projection::ALL {
                let (number, name) = match attention {
                    AttentionKind::Itself => (1, projection.name()),
                    AttentionKind::Cross => (2, projection.name()),
                };
                let of_text =
                    attention == AttentionKind::Cross && matches!(projection, Projection::Key | Projection::Value);
                let name = if projection == Projection::Out { "to_out.0".into() } else { format!("to_{name}") };
                let path = format!("{module}.transformer_blocks.0.attn{number}.{name}");
                let shape = [channels, if of_text { 3 } else { channels }];
                targets.insert(Target { layer, attention, projection }, TargetWeight { path, shape });
            }
        }
    }
    let architecture = Architecture { layers, targets, text_width: 3, joint: false, network: "unet" };
    let fingerprint = Fingerprint { architecture: architecture.describe(), sample: vec![0.0; 16], base: None };
    (architecture, fingerprint)
}
