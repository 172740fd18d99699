use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::{Duration, Instant};

use tch::Tensor;

use super::errors::{from_panic, from_tch, from_text};
use super::{Visit, lock, outside, signals, teams};
use crate::{Error, Result};

type Poll = Box<dyn FnMut() -> bool>;

thread_local! {
    static POLL: RefCell<Option<Poll>> = const { RefCell::new(None) };
    static LAST_POLL: Cell<Option<Instant>> = const { Cell::new(None) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// How often [`check_interrupt`] polls; well under the second that a user waits after Ctrl-C.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(50);

/// Polls for a request of the user to interrupt the call. It is called between layers, so it is cheap.
///
/// # Errors
/// [`Error::Interrupted`] if the user asked for it.
pub fn check_interrupt() -> Result<()> {
    debug_assert!(lock::none_held(), "a lock is held where Python code may run");
    let due = LAST_POLL.get().is_none_or(|last| last.elapsed() >= POLL_EVERY);
    if !due {
        return Ok(());
    }
    LAST_POLL.set(Some(Instant::now()));
    // It is taken out while it runs, since it may run Python code that enters the core again.
    let Some(mut poll) = POLL.take() else { return Ok(()) };
    let stop = outside(&mut poll);
    POLL.set(Some(poll));
    if stop { Err(Error::Interrupted) } else { Ok(()) }
}

/// The entry point of the core: runs `work` in a thread state of its own, without a gradient graph (see [`Visit`]). It
/// calls `poll` from time to time, in the caller's state, to ask whether to stop, and turns panics, including
/// libtorch's exceptions, into errors without printing them.
///
/// # Errors
/// The error of `work`, or of a panic in it.
pub fn guarded<T>(poll: impl FnMut() -> bool + 'static, work: impl FnOnce() -> Result<T>) -> Result<T> {
    silence_guarded_panics();
    let outer = POLL.replace(Some(Box::new(poll)));
    let was_quiet = QUIET.replace(true);
    LAST_POLL.set(None);
    let _signal_stack = signals::SignalStack::new();
    teams::guard();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        // It is restored on a panic too, since the thread may be the user's.
        let _visit = Visit::new()?;
        work()
    }));
    QUIET.set(was_quiet);
    POLL.set(outer);
    LAST_POLL.set(None);
    outcome.unwrap_or_else(|payload| Err(from_panic(payload)))
}

/// Runs `work` within [`guarded`] and turns libtorch's exceptions into errors, so that the core can handle them.
///
/// # Errors
/// The error of `work`, or of a panic in it.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(from_panic(payload)))
}

/// `∂root/∂leaf` of each leaf, in its shape; frees the graph.
///
/// # Errors
/// `Internal` if `root` has no graph or `leaves` are none of it.
pub fn gradients(root: &Tensor, leaves: &[&Tensor]) -> Result<Vec<Tensor>> {
    // Without a graph, libtorch's engine would dereference a null pointer.
    if !root.requires_grad() {
        return Err(from_text("a gradient was asked for of a number that was computed without a graph"));
    }
    Tensor::f_run_backward(&[root], leaves, false, false).map_err(|why| from_tch(&why))
}

/// The default hook prints a message and a backtrace hint; within [`guarded`] the caller gets an error instead.
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
