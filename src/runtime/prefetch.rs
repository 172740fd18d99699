use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;

use super::guard::POLL_EVERY;
use super::{check_interrupt, guarded};
use crate::Result;

/// Runs `prepare` and then `work` on every item, in order, and returns the results. The next item is prepared in
/// another thread meanwhile.
///
/// For a single item no thread is started. `prepare` must not hold tensors. The calling thread polls for interruption,
/// also while it waits; `prepare` learns of it through [`check_interrupt`].
///
/// # Errors
/// The first error of `prepare` or `work`; `Interrupted`.
pub fn prefetch<I: Send, P: Send, T>(
    items: impl ExactSizeIterator<Item = I> + Send,
    prepare: impl Fn(I) -> Result<P> + Sync,
    mut work: impl FnMut(P) -> Result<T>,
) -> Result<Vec<T>> {
    if items.len() < 2 {
        return items.map(|item| work(prepare(item)?)).collect();
    }
    let stop_on_drop = StopOnDrop(Arc::default());
    let stop = stop_on_drop.0.clone();
    thread::scope(|scope| {
        // On any way out it is dropped before the thread is joined, so that the thread stops preparing.
        let _stop_on_drop = stop_on_drop;
        // One item is ready while the thread waits to deliver the next.
        let (ready, next) = sync_channel(1);
        let prepare = &prepare;
        scope.spawn(move || {
            for item in items {
                // The thread enters the core on its own, so that a panic is an error here too.
                let stop = stop.clone();
                let prepared = guarded(move || stop.load(Ordering::Relaxed), || prepare(item));
                if ready.send(prepared).is_err() {
                    // The receiver is gone.
                    return;
                }
            }
        });
        let mut done = vec![];
        while let Some(prepared) = wait(&next)? {
            done.push(work(prepared?)?);
        }
        Ok(done)
    })
}

/// Sets its flag when it is dropped.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The next prepared item, or `None` after the last one.
fn wait<P>(next: &Receiver<P>) -> Result<Option<P>> {
    loop {
        match next.recv_timeout(POLL_EVERY) {
            Ok(prepared) => return Ok(Some(prepared)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => check_interrupt()?,
        }
    }
}
