//! The edges of libtorch: devices, data types, panics, interruption, sharing between threads.
//!
//! tch's plain methods panic when libtorch throws. Inside the core they are used freely, since every input is
//! checked at a stage's border; [`guarded`] stands at the door and turns what still escapes into a typed error.

mod ahead;
pub mod cuda;
mod fastest;
pub mod graph;
mod lock;
pub mod notes;
pub mod shim;
mod signals;
mod state;
pub mod teams;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Once, OnceLock};
use std::time::{Duration, Instant};

use tch::{Cuda, Device, Kind, Tensor};

pub use ahead::ahead;
pub use fastest::{faster, fastest};
pub use lock::Lock;
pub use state::{Visit, outside};

use crate::{Error, Result};

/// The libtorch release that tch is made for; the two move in lockstep.
pub const TORCH_VERSION: &str = "2.11";

/// Reads `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is the first CUDA device where there is one.
pub fn parse_device(name: &str) -> Result<Device> {
    let cuda = |index: usize| {
        let count = if Cuda::is_available() { Cuda::device_count() as usize } else { 0 };
        if index < count {
            return Ok(Device::Cuda(index));
        }
        Err(Error::Device(format!(
            "device {name:?} was asked for, but libtorch sees {count} CUDA device(s); use device=\"cpu\" or install a \
             CUDA build of torch {TORCH_VERSION} and an NVIDIA driver"
        )))
    };
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" if Cuda::is_available() => Ok(Device::Cuda(0)),
        "auto" => Ok(Device::Cpu),
        "cuda" => cuda(0),
        _ => match name.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
            Some(index) => cuda(index),
            None => Err(Error::Device(format!(
                "unknown device {name:?}; expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\""
            ))),
        },
    }
}

/// Reads `auto`, `fastest`, `float32`, `float16` or `bfloat16`.
///
/// `auto` is float16 on CUDA and float32 on the CPU, so that scores do not depend on the processor; `fastest` is what
/// [`fastest`] finds.
pub fn parse_dtype(name: &str, device: Device) -> Result<Kind> {
    match name {
        "auto" if device.is_cuda() => Ok(Kind::Half),
        "auto" | "float32" => Ok(Kind::Float),
        "fastest" => Ok(fastest(device)),
        "bfloat16" => Ok(Kind::BFloat16),
        "float16" if device == Device::Cpu => Err(Error::Device(
            "dtype \"float16\" on the CPU would be emulated; use dtype=\"float32\", or \"bfloat16\" to save memory"
                .into(),
        )),
        "float16" => Ok(Kind::Half),
        _ => Err(Error::Device(format!(
            "unknown dtype {name:?}; expected \"auto\", \"fastest\", \"float32\", \"float16\" or \"bfloat16\""
        ))),
    }
}

/// This variable of the environment, set to `0`, has everything computed by libtorch's own operators and in its own
/// layouts.
pub const SWITCH: &str = "DISCFFUSION_FUSED";

/// Whether kernels of this crate and layouts of its choice may be used.
pub fn fast_paths() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var(SWITCH).map_or(true, |value| value != "0"))
}

/// This variable of the environment, set to `1`, has small evaluations on CUDA recorded as graphs when they come again.
pub const GRAPHS: &str = "DISCFFUSION_GRAPHS";

/// Whether evaluations may be recorded: not unless it is asked for.
pub fn records_graphs() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var(GRAPHS).is_ok_and(|value| value == "1"))
}

/// A tensor of the CPU on a device. For CUDA it goes through memory that the device reads while the CPU goes on, as far
/// as there is some.
pub fn upload(tensor: &Tensor, device: Device) -> Tensor {
    match device {
        Device::Cuda(index) if fast_paths() => shim::upload(tensor, index).unwrap_or_else(|_| tensor.to_device(device)),
        _ => tensor.to_device(device),
    }
}

/// Numbers that are asked for now and read later, so that a device can be given more to do in between.
pub enum Coming {
    Here(Tensor),
    Sent(shim::Arrival),
}

impl Coming {
    /// The numbers of a tensor, as far as they are computed when it is their turn.
    pub fn new(tensor: &Tensor) -> Self {
        let sent = if tensor.device().is_cuda() && fast_paths() { shim::send(&tensor.detach()).ok() } else { None };
        sent.map_or_else(|| Coming::Here(tensor.detach()), Coming::Sent)
    }

    /// Waits for them: float64, row-major.
    pub fn read(self) -> Vec<f64> {
        match self {
            Coming::Here(tensor) => to_vec64(&tensor),
            Coming::Sent(arrival) => to_vec64(&arrival.receive()),
        }
    }
}

/// The name that users give a device.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".into(),
    }
}

/// The name that users give a data type.
pub fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        _ => "float32",
    }
}

/// Copies a tensor of any device and float type into a float32 vector, row-major.
pub fn to_vec(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut data = vec![0f32; tensor.numel()];
    tensor.copy_data(&mut data, tensor.numel());
    data
}

/// Copies a tensor of any device and float type into a float64 vector, row-major.
pub fn to_vec64(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double).contiguous();
    let mut data = vec![0f64; tensor.numel()];
    tensor.copy_data(&mut data, tensor.numel());
    data
}

/// A value that holds tensors and is only read.
///
/// tch leaves `Tensor` without `Sync` because its in-place methods take `&self` views of shared storage.
pub struct Shared<T>(T);

// SAFETY: libtorch allows any number of threads to read one tensor (reference counts are atomic, version counters
// are only written by in-place operations). `Shared` gives out `&T` alone, and who made it has promised the rest.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Wraps a value that nobody writes to from here on.
    ///
    /// # Safety
    /// Tensors are all that keeps `T` from being `Sync`, and none of them is written to in place from here on, neither
    /// through this value nor through another tensor over the same memory.
    pub unsafe fn new(value: T) -> Self {
        Shared(value)
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

type Poll = Box<dyn FnMut() -> bool>;

thread_local! {
    static POLL: RefCell<Option<Poll>> = const { RefCell::new(None) };
    static LAST_POLL: Cell<Option<Instant>> = const { Cell::new(None) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// How often [`check_interrupt`] really asks; well under the second that a user waits after Ctrl-C.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// Ends the call with [`Error::Interrupted`] if the user asked for it. Called between layers, so it is cheap.
pub fn check_interrupt() -> Result<()> {
    debug_assert!(lock::none_held(), "a lock is held where Python code may run");
    let due = LAST_POLL.get().is_none_or(|last| last.elapsed() >= POLL_EVERY);
    if !due {
        return Ok(());
    }
    LAST_POLL.set(Some(Instant::now()));
    // Taken out while it runs: it may run Python code that enters the core again.
    let Some(mut poll) = POLL.take() else { return Ok(()) };
    let stop = outside(&mut poll);
    POLL.set(Some(poll));
    if stop { Err(Error::Interrupted) } else { Ok(()) }
}

/// The one door to the core: runs `work` in a thread state of its own, without a gradient graph (see [`Visit`]), asks
/// `poll` now and then, in the caller's state, whether to stop, and turns panics (libtorch's exceptions among them) into
/// errors without a word on stderr.
pub fn guarded<T>(poll: impl FnMut() -> bool + 'static, work: impl FnOnce() -> Result<T>) -> Result<T> {
    silence_guarded_panics();
    let outer = POLL.replace(Some(Box::new(poll)));
    let was_quiet = QUIET.replace(true);
    LAST_POLL.set(None);
    let _signal_stack = signals::SignalStack::new();
    teams::guard();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        // Restored on a panic too: the thread may be the user's.
        let _visit = Visit::new()?;
        work()
    }));
    QUIET.set(was_quiet);
    POLL.set(outer);
    LAST_POLL.set(None);
    outcome.unwrap_or_else(|payload| Err(from_panic(payload)))
}

/// Runs `work` inside the door, with libtorch's exceptions as errors, so that the core can go on after one.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(from_panic(payload)))
}

/// `∂root/∂leaf` of each leaf, in its shape; the graph is gone afterwards.
///
/// # Errors
/// `Internal` if `root` has no graph or `leaves` are none of it.
pub fn gradients(root: &Tensor, leaves: &[&Tensor]) -> Result<Vec<Tensor>> {
    // libtorch's engine takes a graph for granted here and would follow a null pointer.
    if !root.requires_grad() {
        return Err(from_text("a gradient was asked for of a number that was computed without a graph"));
    }
    Tensor::f_run_backward(&[root], leaves, false, false).map_err(|why| from_tch(&why))
}

/// The default hook prints a message and a backtrace hint; inside the door the caller gets an exception instead.
fn silence_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                default(info);
            }
        }));
    });
}

/// Ends the call with `error` where nothing that can fail is between: as tch's own methods do, by a panic that the door
/// catches.
pub fn fail(error: Error) -> ! {
    panic::resume_unwind(Box::new(error))
}

fn from_panic(payload: Box<dyn Any + Send>) -> Error {
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

fn from_text(text: &str) -> Error {
    let first = what_happened(text);
    let starved = ["out of memory", "can't allocate memory", "not enough memory", "std::bad_alloc"];
    // oneDNN does not say why; but a kernel that it had described and then cannot make is one that it has no room for.
    let (made, described) = ("could not create a primitive", "could not create a primitive descriptor");
    if starved.iter().any(|sign| text.contains(sign)) || text.contains(made) && !text.contains(described) {
        return Error::OutOfMemory(format!("{first}; use a smaller batch_size or resolution"));
    }
    Error::Internal(anyhow::anyhow!("{first}"))
}

/// The sentence that says what happened. libtorch puts the place in its source before it and advice and a C++ stack trace
/// behind it; where tch panics, all of it comes as Rust prints a string in an error, with line ends as `\n`.
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
    // Of CUDA's account of who has which memory, what was asked for.
    let ends: Vec<usize> = line.match_indices(". ").map(|(at, _)| at).collect();
    let end = match line.contains("out of memory") {
        true => ends.get(1).or(ends.first()),
        false => ends.first(),
    };
    let said: String = line[..end.copied().unwrap_or(line.len())].chars().take(LONGEST).collect();
    said.trim_end_matches('.').to_owned()
}

/// Most characters of what libtorch says that an error repeats.
const LONGEST: usize = 300;
