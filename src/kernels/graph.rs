//! CUDA graphs: what a device was given to do once, started again as one.

use std::ffi::{c_int, c_void};

use crate::Result;
use crate::runtime::{caught, from_text, last_error};

unsafe extern "C" {
    fn discffusion_has_graphs() -> bool;
    fn discffusion_graph_enter(index: c_int) -> *mut c_void;
    fn discffusion_graph_begin(graph: *mut c_void) -> bool;
    fn discffusion_graph_end(graph: *mut c_void) -> bool;
    fn discffusion_graph_leave(graph: *mut c_void);
    fn discffusion_graph_replay(graph: *mut c_void) -> bool;
    fn discffusion_graph_delete(graph: *mut c_void);
}

/// Whether libtorch's library for CUDA is open and has graphs.
pub fn has_graphs() -> bool {
    // SAFETY: takes and keeps nothing.
    unsafe { discffusion_has_graphs() }
}

/// What was recorded. It reads and writes the very tensors that were there when it was, which have to be kept.
#[derive(Debug)]
pub struct Graph(*mut c_void);

// SAFETY: the handle is used by one thread at a time, and libtorch's graphs may be started from any.
unsafe impl Send for Graph {}

impl Graph {
    /// Runs `work` twice on a CUDA device, once to have everything ready and once to record it; what it makes the second
    /// time is computed when the graph is started. It must not wait for the device, nor read memory of the CPU.
    ///
    /// # Errors
    /// What `work` or libtorch says; nothing is left of the record then.
    pub fn record<T>(index: usize, mut work: impl FnMut() -> Result<T>) -> Result<(Graph, T)> {
        let index = c_int::try_from(index).map_err(|why| from_text(&why.to_string()))?;
        // SAFETY: takes a number; what it gives is deleted when `graph` is dropped.
        let handle = unsafe { discffusion_graph_enter(index) };
        if handle.is_null() {
            return Err(from_text(&last_error()));
        }
        let graph = Graph(handle);
        // Left before the graph is dropped, being younger.
        let inside = Inside(handle);
        drop(caught(&mut work)?);
        // SAFETY: the graph is alive.
        done(unsafe { discffusion_graph_begin(handle) })?;
        let made = caught(&mut work);
        // SAFETY: it was begun, and is ended in any case: the device would go on to record.
        let ended = done(unsafe { discffusion_graph_end(handle) });
        let made = made?;
        ended?;
        drop(inside);
        Ok((graph, made))
    }

    /// Starts it on the stream that this thread computes on.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the graph is alive and was recorded.
        done(unsafe { discffusion_graph_replay(self.0) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the handle came from `enter` and is given back once.
        unsafe { discffusion_graph_delete(self.0) }
    }
}

/// While this thread computes on a graph's stream.
struct Inside(*mut c_void);

impl Drop for Inside {
    fn drop(&mut self) {
        // SAFETY: the graph is alive: it is dropped after this.
        unsafe { discffusion_graph_leave(self.0) }
    }
}

fn done(succeeded: bool) -> Result<()> {
    if succeeded { Ok(()) } else { Err(from_text(&last_error())) }
}
