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

/// How often [`check_interrupt`] really asks; well under the second that a user waits after Ctrl-C.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(50);

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
