//! An alternate stack for signal handlers while libtorch's kernels run.
//!
//! oneDNN's generated matrix kernels point the stack register into a buffer on the heap when the inner dimension is
//! large. A signal that arrives then makes the kernel of the operating system push its frame below that buffer, into
//! whatever lies there: Ctrl-C would corrupt the heap once in twenty times. A handler that asks for the alternate stack
//! (SA_ONSTACK), as Python's do, runs there instead, if the thread has one. Any thread that runs such a kernel needs
//! one: a timer's signal goes to whichever is running, and of several signals at once some go to others than the main
//! thread. These are the thread that entered the core, which has a [`SignalStack`] until it leaves, and the other
//! threads of libtorch's OpenMP, to which `teams.rs` gives a permanent one.

/// While it lives, this thread has an alternate signal stack.
pub struct SignalStack {
    #[cfg(unix)]
    memory: Option<Box<[u8]>>,
}

#[cfg(unix)]
impl SignalStack {
    /// Room for a handler beyond what the processor's registers take.
    const HANDLER: usize = 64 << 10;

    /// Gives the thread a stack, unless it has one.
    pub fn new() -> Self {
        let mut present = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: only asks, and there is room for the answer.
        let asked = unsafe { libc::sigaltstack(std::ptr::null(), &mut present) };
        if asked != 0 || present.ss_flags & libc::SS_DISABLE == 0 {
            return SignalStack { memory: None };
        }
        let size = registers() + Self::HANDLER;
        let mut memory = Vec::new();
        if memory.try_reserve_exact(size).is_err() {
            return SignalStack { memory: None };
        }
        memory.resize(size, 0);
        let mut memory = memory.into_boxed_slice();
        let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
        // SAFETY: the memory lives until `drop` has taken it back from the thread; nothing else uses it. Where the
        // system refuses, the thread stays as it was.
        let set = unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
        SignalStack { memory: (set == 0).then_some(memory) }
    }
}

/// Bytes of a signal's frame on this processor; AMX alone takes 8 KiB.
#[cfg(all(unix, target_os = "linux"))]
fn registers() -> usize {
    // SAFETY: reads a constant of the process; 0 where the system does not say.
    let least = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    least.max(libc::MINSIGSTKSZ)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn registers() -> usize {
    libc::MINSIGSTKSZ
}

#[cfg(unix)]
impl Drop for SignalStack {
    fn drop(&mut self) {
        let Some(memory) = &self.memory else { return };
        let mut present = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
        let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: takes back what `new` gave, and only that: somebody may have set another stack since.
        unsafe {
            libc::sigaltstack(std::ptr::null(), &mut present);
            if present.ss_sp.cast_const().cast() == memory.as_ptr() {
                libc::sigaltstack(&none, std::ptr::null_mut());
            }
        }
    }
}

#[cfg(not(unix))]
impl SignalStack {
    /// There are no signals to guard against.
    pub fn new() -> Self {
        SignalStack {}
    }
}
