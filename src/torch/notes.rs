//! What the core has to tell its user beside results: kept until somebody takes it.

use std::sync::{Mutex, PoisonError};

static NOTES: Mutex<Vec<String>> = Mutex::new(vec![]);

/// Leaves a note, once for every text.
pub fn leave(note: String) {
    static LEFT: Mutex<Vec<String>> = Mutex::new(vec![]);
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    if !left.contains(&note) {
        left.push(note.clone());
        NOTES.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }
}

/// Takes all notes.
pub fn take() -> Vec<String> {
    std::mem::take(&mut NOTES.lock().unwrap_or_else(PoisonError::into_inner))
}
