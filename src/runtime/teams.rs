//! The threads of libtorch's OpenMP, see `teams.cpp`.

use std::cell::Cell;
use std::ffi::c_void;

use super::signals::SignalStack;

unsafe extern "C" {
    fn discffusion_guard_teams(give_stack: extern "C" fn(*mut c_void)) -> bool;
    fn discffusion_end_team() -> bool;
}

/// Gives every thread of an OpenMP team of libtorch, except the one that starts the team, an alternate signal stack
/// before it works. Returns false if that is not possible: without OpenMP, and on systems other than Linux on x86-64,
/// for which oneDNN has no kernels that need it.
pub fn guard() -> bool {
    extern "C" fn give_stack(_: *mut c_void) {
        thread_local! {
            static OWN: SignalStack = SignalStack::new();
        }
        // A thread that is ending has returned its stack and runs no more work.
        let _ = OWN.try_with(|_| ());
    }
    // SAFETY: the function may be called from any thread at any time, and does not unwind.
    unsafe { discffusion_guard_teams(give_stack) }
}

thread_local! {
    static ENDED: Cell<bool> = const { Cell::new(false) };
}

/// Ends the OpenMP team of the thread that is about to fork, so that neither process waits for threads that only the
/// other has. The next work starts new threads.
pub fn before_fork() {
    // SAFETY: takes and keeps nothing.
    ENDED.set(unsafe { discffusion_end_team() });
}

/// In the child process: computes with one thread from here on if the team could not be ended, as during a team's own
/// work.
pub fn after_fork_in_child() {
    if !ENDED.get() {
        tch::set_num_threads(1);
    }
}
