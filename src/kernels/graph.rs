//! CUDA graphs: a recorded sequence of kernels that is started as one.

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

/// Whether libtorch's CUDA library is loaded and supports graphs.
pub fn has_graphs() -> bool {
    // SAFETY: takes and keeps nothing.
    unsafe { discffusion_has_graphs() }
}

/// A recorded graph. It reads and writes the memory of the tensors it was recorded with, which must be kept alive.
#[derive(Debug)]
pub struct Graph(*mut c_void);

// SAFETY: the handle is used by one thread at a time, and libtorch's graphs may be started from any.
unsafe impl Send for Graph {}

impl Graph {
    /// Runs `work` twice on the CUDA device of index `index`: once to initialise libraries and allocators, once to
    /// record it. The tensors of the second run are computed when the graph is replayed. `work` must not synchronise
    /// with the device, nor read CPU memory.
    ///
    /// # Errors
    /// An error of `work` or of libtorch; the recording is discarded then.
    pub fn record<T>(index: usize, mut work: impl FnMut() -> Result<T>) -> Result<(Graph, T)> {
        let index = c_int::try_from(index).map_err(|why| from_text(&why.to_string()))?;
        // SAFETY: takes a number; what it gives is deleted when `graph` is dropped.
        let handle = unsafe { discffusion_graph_enter(index) };
        if handle.is_null() {
            return Err(from_text(&last_error()));
        }
        let graph = Graph(handle);
        // Declared after `graph`, so that it is dropped first.
        let inside = Inside(handle);
        drop(caught(&mut work)?);
        // SAFETY: the graph is alive.
        done(unsafe { discffusion_graph_begin(handle) })?;
        let made = caught(&mut work);
        // SAFETY: it was begun. It is ended in any case, otherwise the device would continue recording.
        let ended = done(unsafe { discffusion_graph_end(handle) });
        let made = made?;
        ended?;
        drop(inside);
        Ok((graph, made))
    }

    /// Starts the graph on this thread's current stream.
    ///
    /// # Errors
    /// An error of libtorch.
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

/// While it lives, this thread computes on the graph's stream.
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
