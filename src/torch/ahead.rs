use std::sync::mpsc::sync_channel;
use std::thread;

use super::guarded;
use crate::Result;

/// `work` on what `prepare` makes of every item, in order; the next item is prepared in another thread meanwhile.
///
/// Without a next item there is no thread. `prepare` holds no tensors, and `work` is where interruption is noticed.
pub fn ahead<I: Send, P: Send, T>(
    items: impl ExactSizeIterator<Item = I> + Send,
    prepare: impl Fn(I) -> Result<P> + Sync,
    mut work: impl FnMut(P) -> Result<T>,
) -> Result<Vec<T>> {
    if items.len() < 2 {
        return items.map(|item| work(prepare(item)?)).collect();
    }
    thread::scope(|scope| {
        // One that is ready and one that waits to be taken.
        let (ready, next) = sync_channel(1);
        scope.spawn(|| {
            // The channel's end moves in, so that the last item is known to be the last.
            let ready = ready;
            for item in items {
                // Through a door of its own: a panic is an error here too.
                let prepared = guarded(|| false, || prepare(item));
                if ready.send(prepared).is_err() {
                    // Nobody waits any more.
                    return;
                }
            }
        });
        next.into_iter().map(|prepared| work(prepared?)).collect()
    })
}
