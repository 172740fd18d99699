//! Numbers that a model computed and may be asked for again.

use std::collections::HashMap;

use crate::runtime::Lock;

/// Bytes that are kept at most.
const ROOM: usize = 32 << 20;

/// A number for each time of a configuration, by name.
#[derive(Default)]
pub struct Kept(Lock<Entries>);

#[derive(Default)]
struct Entries {
    numbers: HashMap<String, Vec<f64>>,
    bytes: usize,
}

impl Kept {
    /// The numbers of a name at some times, by index, if all are known.
    pub fn get(&self, name: &str, times: &[usize]) -> Option<Vec<f64>> {
        let kept = self.0.hold();
        let numbers = kept.numbers.get(name)?;
        let known = |&time: &usize| numbers.get(time).copied().filter(|number| !number.is_nan());
        times.iter().map(known).collect()
    }

    /// Keeps the numbers of a name at some of its `count` times. Where there is no room, all that was kept is dropped.
    pub fn set(&self, name: &str, count: usize, times: &[usize], numbers: &[f64]) {
        let mut kept = self.0.hold();
        if !kept.numbers.contains_key(name) {
            let bytes = name.len() + count * size_of::<f64>();
            if kept.bytes + bytes > ROOM {
                *kept = Entries::default();
            }
            kept.bytes += bytes;
            kept.numbers.insert(name.to_owned(), vec![f64::NAN; count]);
        }
        let all = kept.numbers.get_mut(name).expect("it is there");
        times.iter().zip(numbers).for_each(|(&time, &number)| all[time] = number);
    }
}
