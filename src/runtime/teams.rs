//! The threads of libtorch's OpenMP: see `teams.cpp`.

use std::cell::Cell;
use std::ffi::c_void;

use super::signals::SignalStack;

unsafe extern "C" {
    fn discffusion_guard_teams(give_stack: extern "C" fn(*mut c_void)) -> bool;
    fn discffusion_end_team() -> bool;
}

/// Has every thread of a team of libtorch's take a stack for signals before it works, but the one that begins the team.
/// False where that cannot be done: elsewhere than on Linux and x86-64, which alone oneDNN has such kernels for that need
/// it, and without OpenMP.
pub fn guard() -> bool {
    extern "C" fn give_stack(_: *mut c_void) {
        thread_local! {
            static OWN: SignalStack = SignalStack::new();
        }
        // A thread that is ending has given its own back and works no more.
        let _ = OWN.try_with(|_| ());
    }
    // SAFETY: the function may be called from any thread at any time, and does not unwind.
    unsafe { discffusion_guard_teams(give_stack) }
}

thread_local! {
    static ENDED: Cell<bool> = const { Cell::new(false) };
}

/// Ends the team of the thread that is about to fork, so that neither side waits for threads that only one of them has.
/// The next work makes new ones.
pub fn before_fork() {
    // SAFETY: takes and keeps nothing.
    ENDED.set(unsafe { discffusion_end_team() });
}

/// Computes with one thread from here on if the team could not be ended, as within a team's own work.
pub fn after_fork_in_child() {
    if !ENDED.get() {
        tch::set_num_threads(1);
    }
}
