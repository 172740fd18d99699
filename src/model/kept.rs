//! Numbers that a model computed and may be asked for again.

use std::collections::HashMap;

use crate::runtime::Lock;

/// Numbers that are kept at most, 32 MiB of them.
const MOST: usize = 4 << 20;

/// A number for each time of a configuration, by name.
#[derive(Default)]
pub struct Kept(Lock<HashMap<String, Vec<f64>>>);

impl Kept {
    /// The numbers of a name at some times, by index, if all are known.
    pub fn get(&self, name: &str, times: &[usize]) -> Option<Vec<f64>> {
        let kept = self.0.hold();
        let numbers = kept.get(name)?;
        let known = |&time: &usize| numbers.get(time).copied().filter(|number| !number.is_nan());
        times.iter().map(known).collect()
    }

    /// Keeps the numbers of a name at some of its `count` times. All that was kept is dropped where it is too much.
    pub fn set(&self, name: &str, count: usize, times: &[usize], numbers: &[f64]) {
        let mut kept = self.0.hold();
        if (kept.len() + 1) * count > MOST {
            kept.clear();
        }
        let all = kept.entry(name.to_owned()).or_insert_with(|| vec![f64::NAN; count]);
        times.iter().zip(numbers).for_each(|(&time, &number)| all[time] = number);
    }
}
