use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;

use super::guard::POLL_EVERY;
use super::{check_interrupt, guarded};
use crate::Result;

/// `work` on what `prepare` makes of every item, in order; the next item is prepared in another thread meanwhile.
///
/// Without a next item there is no thread. `prepare` holds no tensors. Whether the user wants to stop is asked by the
/// calling thread, while it waits too; `prepare` hears of it by [`check_interrupt`].
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
        // Before the thread is waited for, on whatever way out: what is prepared then is for nobody.
        let _stop_on_drop = stop_on_drop;
        // One that is ready and one that waits to be taken.
        let (ready, next) = sync_channel(1);
        let prepare = &prepare;
        scope.spawn(move || {
            for item in items {
                // Through a door of its own: a panic is an error here too.
                let stop = stop.clone();
                let prepared = guarded(move || stop.load(Ordering::Relaxed), || prepare(item));
                if ready.send(prepared).is_err() {
                    // Nobody waits any more.
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

/// What comes next, or None if nothing does any more.
fn wait<P>(next: &Receiver<P>) -> Result<Option<P>> {
    loop {
        match next.recv_timeout(POLL_EVERY) {
            Ok(prepared) => return Ok(Some(prepared)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => check_interrupt()?,
        }
    }
}
