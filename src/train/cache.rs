//! A cache of what is encoded, limited in bytes.

use std::collections::{HashMap, HashSet, VecDeque};

/// Values by the caller's indices. Where there is no room for another, the oldest are dropped, except those that the
/// latest [`Cache::ensure`] asked for.
pub struct Cache<T> {
    room: usize,
    /// The values, and the bytes that each takes.
    values: HashMap<usize, (T, usize)>,
    /// The indices, the oldest first.
    order: VecDeque<usize>,
    bytes: usize,
    needed: HashSet<usize>,
}

impl<T> Cache<T> {
    /// An empty cache of so many bytes.
    pub fn new(room: usize) -> Self {
        Cache { room, values: HashMap::new(), order: VecDeque::new(), bytes: 0, needed: HashSet::new() }
    }

    /// The value of an index, if it is cached.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.values.get(&index).map(|(value, _)| value)
    }

    /// The indices that are not cached, each once, in order. No index of the list is dropped before the next call: those
    /// that are inserted are all there in the end, if need be in more bytes than there is room for.
    pub fn ensure(&mut self, indices: &[usize]) -> Vec<usize> {
        self.needed.clear();
        let first = |&index: &usize| self.needed.insert(index).then_some(index);
        let each_once: Vec<usize> = indices.iter().filter_map(first).collect();
        each_once.into_iter().filter(|index| !self.values.contains_key(index)).collect()
    }

    /// Caches a value that takes so many bytes, and drops old ones if there is no room.
    pub fn insert(&mut self, index: usize, value: T, bytes: usize) {
        self.remove(index);
        self.bytes += bytes;
        self.values.insert(index, (value, bytes));
        self.order.push_back(index);
        let droppable: Vec<usize> =
            self.order.iter().copied().filter(|other| *other != index && !self.needed.contains(other)).collect();
        for oldest in droppable {
            if self.bytes <= self.room {
                break;
            }
            self.remove(oldest);
        }
    }

    fn remove(&mut self, index: usize) {
        if let Some((_, bytes)) = self.values.remove(&index) {
            self.bytes -= bytes;
            self.order.retain(|&other| other != index);
        }
    }
}
