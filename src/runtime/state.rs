//! The per-thread state of libtorch and of the processor, see `state.cpp`.

use std::ffi::c_void;

use super::errors::{from_text, last_error};
use crate::Result;

unsafe extern "C" {
    fn discffusion_visit_begin() -> *mut c_void;
    fn discffusion_visit_end(visit: *mut c_void);
    fn discffusion_outside_begin() -> *mut c_void;
    fn discffusion_outside_end(outside: *mut c_void);
}

/// While it lives, this thread computes in the default state of a new thread, without a graph. Settings of the caller
/// (autocast, inference mode, Python dispatch modes, the current stream, treatment of denormal numbers) change no
/// number and do not mark tensors that are kept. Dropping it restores the caller's state; it must be dropped on the
/// same thread.
pub struct Visit(*mut c_void);

impl Visit {
    /// Saves the caller's state and sets the default one.
    ///
    /// # Errors
    /// `OutOfMemory` if the caller's state cannot be saved.
    pub fn new() -> Result<Self> {
        // SAFETY: takes nothing; what it gives is given back in `drop`, by the same thread, since it is not `Send`.
        let visit = unsafe { discffusion_visit_begin() };
        if visit.is_null() { Err(from_text(&last_error())) } else { Ok(Visit(visit)) }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // SAFETY: it came from `begin` and is given back once; visits are nested, as Rust's scopes are.
        unsafe { discffusion_visit_end(self.0) }
    }
}

/// Calls a function of the caller, such as a progress callback, in the caller's state instead of the [`Visit`]'s.
pub fn outside<T>(call: impl FnOnce() -> T) -> T {
    struct Outside(*mut c_void);
    impl Drop for Outside {
        fn drop(&mut self) {
            // SAFETY: it came from `begin`, in this thread, and is given back once.
            unsafe { discffusion_outside_end(self.0) }
        }
    }
    // SAFETY: takes nothing.
    let begun = unsafe { discffusion_outside_begin() };
    let _outside = (!begun.is_null()).then(|| Outside(begun));
    call()
}
