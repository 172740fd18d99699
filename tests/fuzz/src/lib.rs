//! What the targets share: the door that all of the core is entered by, and files in memory.

use std::cell::RefCell;
use std::path::Path;

use discffusion::checkpoint::{Site, Stage};
use discffusion::deltas::{Architecture, Fingerprint};
use discffusion::torch::guarded;
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
    let site = |stage, channels| Site { stage, block: 0, layer: 0, heads: 2, channels };
    let architecture = Architecture { sites: vec![site(Stage::Down, 4), site(Stage::Mid, 6)], text_width: 3 };
    let fingerprint = Fingerprint { architecture: architecture.describe(), sample: vec![0.0; 16], base: None };
    (architecture, fingerprint)
}
