use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// A mutex that is never held while Python code can run.
///
/// [`check_interrupt`](super::check_interrupt) may run a signal handler on the same thread. If the handler calls the
/// core, it would wait forever for a lock that its own thread holds. So no lock may be held there, and debug builds
/// assert it. After a panic, the value is left as it is then.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// An unlocked value.
    pub const fn new(value: T) -> Self {
        Lock(Mutex::new(value))
    }

    /// Waits until no other thread holds the lock, and returns the value.
    pub fn hold(&self) -> Held<'_, T> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        HELD.set(HELD.get() + 1);
        Held(guard)
    }
}

/// The value of a [`Lock`], which this thread holds until it is dropped.
pub struct Held<'a, T>(MutexGuard<'a, T>);

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

/// Whether this thread holds no lock.
pub(super) fn none_held() -> bool {
    HELD.get() == 0
}
