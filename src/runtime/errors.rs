//! libtorch's exceptions as errors.

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::panic;

use crate::Error;

unsafe extern "C" {
    fn discffusion_last_error() -> *const c_char;
}

/// Ends the call with `error` from a function that cannot return one: by a panic, as tch's methods do, which
/// [`guarded`](super::guarded) catches.
pub fn fail(error: Error) -> ! {
    panic::resume_unwind(Box::new(error))
}

pub(super) fn from_panic(payload: Box<dyn Any + Send>) -> Error {
    let payload = match payload.downcast::<Error>() {
        Ok(error) => return *error,
        Err(other) => other,
    };
    let text = (payload.downcast_ref::<String>().map(String::as_str))
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("unknown panic");
    from_text(text)
}

/// libtorch's exception as an error.
pub fn from_tch(error: &tch::TchError) -> Error {
    from_text(&error.to_string())
}

pub(crate) fn from_text(text: &str) -> Error {
    let first = what_happened(text);
    let starved = ["out of memory", "can't allocate memory", "not enough memory", "std::bad_alloc"];
    // oneDNN gives no reason, but if it could describe a kernel and then cannot create it, memory is the cause.
    let (made, described) = ("could not create a primitive", "could not create a primitive descriptor");
    if starved.iter().any(|sign| text.contains(sign)) || text.contains(made) && !text.contains(described) {
        return Error::OutOfMemory(format!("{first}; use a smaller batch_size or resolution"));
    }
    Error::Internal(anyhow::anyhow!("{first}"))
}

/// The sentence that says what happened. libtorch adds a source location before it, and advice and a C++ stack trace
/// after it. If tch panicked, all of that is in Rust's debug notation, with line ends as `\n`.
fn what_happened(text: &str) -> String {
    let printed = text.find("Torch(\"").map(|at| &text[at + "Torch(\"".len()..]);
    let line = match printed {
        Some(printed) => printed.split("\\n").next().unwrap_or(printed).replace("\\\"", "\"").replace("\\'", "'"),
        None => text.lines().next().unwrap_or(text).to_owned(),
    };
    let mut line = line.trim_end_matches("\")").trim();
    line = line.strip_prefix("Internal torch error: ").unwrap_or(line);
    // [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: …
    if let Some((_, behind)) = line.strip_prefix("[enforce fail at ").and_then(|rest| rest.split_once("] ")) {
        line = behind.split_once(". ").map_or(behind, |(_, said)| said);
    }
    // The first two sentences of CUDA's memory statistics, which say how much was requested.
    let ends: Vec<usize> = line.match_indices(". ").map(|(at, _)| at).collect();
    let end = match line.contains("out of memory") {
        true => ends.get(1).or(ends.first()),
        false => ends.first(),
    };
    let said: String = line[..end.copied().unwrap_or(line.len())].chars().take(LONGEST).collect();
    said.trim_end_matches('.').to_owned()
}

/// The most characters of libtorch's message that an error repeats.
const LONGEST: usize = 300;

/// The message of the last failed call in this thread.
pub(crate) fn last_error() -> String {
    // SAFETY: the text lives in this thread until the next error.
    unsafe { CStr::from_ptr(discffusion_last_error()) }.to_string_lossy().into_owned()
}
