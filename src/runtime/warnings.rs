//! Warnings for the user. They are kept until the binding takes them.

use std::cell::Cell;

use super::Lock;

static WAITING: Lock<Vec<String>> = Lock::new(vec![]);

/// Adds a warning, unless the same text was added before in this process.
pub fn push(warning: String) {
    static SEEN: Lock<Vec<String>> = Lock::new(vec![]);
    let mut seen = SEEN.hold();
    if !seen.contains(&warning) {
        seen.push(warning.clone());
        WAITING.hold().push(warning);
    }
}

/// Takes all warnings.
pub fn take() -> Vec<String> {
    std::mem::take(&mut WAITING.hold())
}

thread_local! {
    static TRUNCATED: Cell<Option<Truncation>> = const { Cell::new(None) };
}

/// Texts that were truncated.
#[derive(Debug, Clone, Copy)]
pub struct Truncation {
    /// Number of truncated texts.
    pub count: usize,
    /// The number of tokens that the model takes.
    pub limit: usize,
}

/// Records that work of this thread truncated `count` texts.
pub fn truncated(count: usize, limit: usize) {
    let before = TRUNCATED.get().map_or(0, |truncation| truncation.count);
    TRUNCATED.set(Some(Truncation { count: before + count, limit }));
}

/// Takes the record of texts that work of this thread truncated.
pub fn take_truncated() -> Option<Truncation> {
    TRUNCATED.take()
}
