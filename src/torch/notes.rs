//! What the core has to tell its user beside results: kept until somebody takes it.

use super::Lock;

static NOTES: Lock<Vec<String>> = Lock::new(vec![]);

/// Leaves a note, once for every text.
pub fn leave(note: String) {
    static LEFT: Lock<Vec<String>> = Lock::new(vec![]);
    let mut left = LEFT.hold();
    if !left.contains(&note) {
        left.push(note.clone());
        NOTES.hold().push(note);
    }
}

/// Takes all notes.
pub fn take() -> Vec<String> {
    std::mem::take(&mut NOTES.hold())
}
