//! A cache of recorded CUDA graphs. Repeated small work is recorded, so that a GPU starts its hundreds of kernels as
//! one: one evaluation of a UNet keeps an H200 busy for about as long as it takes to launch its kernels one by one.

use tch::{Kind, Tensor};

use super::graph::Graph;
use super::{GRAPHS, self_check, shim};
use crate::runtime::{Lock, caught, warnings};
use crate::{Error, Result};

/// The most recordings that are kept; each keeps the memory that its work needs.
const MOST_RECORDINGS: usize = 8;
/// The most kinds of work that are remembered, recorded or not.
const MOST_ENTRIES: usize = 64;
/// How often the results of a graph are compared with the work itself before the graph is trusted.
const CHECKS: usize = 3;
/// The largest difference of these results, relative to the largest number; both run the same kernels.
const TOLERANCE: f64 = 1e-4;

/// How work is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As a graph of the CUDA device of this index.
    Cuda(usize),
    /// Without a graph: a replay runs the work on the recorded tensors. It is for tests on machines without a device.
    Eager,
}

/// The results of work.
pub struct Made {
    /// The computed tensors.
    pub tensors: Vec<Tensor>,
    /// Whether they depend only on the input tensors, so that the work can be recorded.
    pub repeatable: bool,
}

/// Recorded work, and work that is recorded if it is repeated. Several threads may use it at the same time.
#[derive(Debug)]
pub struct GraphCache {
    mode: Mode,
    entries: Lock<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    list: Vec<(Key, Entry)>,
    /// Whether nothing more may be recorded.
    closed: bool,
}

/// What identifies work.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    name: String,
    inputs: Vec<(Vec<i64>, Kind)>,
    /// A graph belongs to one stream: work on other streams would overwrite its tensors.
    stream: usize,
}

#[derive(Debug)]
enum Entry {
    /// The work ran once and is recorded when it runs again.
    RanOnce,
    /// A thread is recording or replaying the work. Other threads run it without a graph meanwhile.
    InUse,
    /// The work is recorded.
    Recorded(Recording),
    /// The work cannot be recorded.
    Refused,
}

impl GraphCache {
    /// An empty cache.
    pub fn new(mode: Mode) -> Self {
        GraphCache { mode, entries: Lock::default() }
    }

    /// An empty cache of the same mode.
    pub fn anew(&self) -> Self {
        GraphCache::new(self.mode)
    }

    /// The tensors that `work` computes from `inputs`. Work that runs for the second time is recorded, and recorded
    /// work is replayed. `name` and the shapes and types of the inputs must determine everything that the work depends
    /// on, except the numbers in the inputs.
    ///
    /// # Errors
    /// An error of `work`. A recording that fails is not an error: the work then runs without a graph, with a warning.
    pub fn run(&self, name: &str, inputs: &[Tensor], work: &dyn Fn(&[Tensor]) -> Result<Made>) -> Result<Vec<Tensor>> {
        let shapes = inputs.iter().map(|x| (x.size(), x.kind())).collect();
        let key = Key { name: name.to_owned(), inputs: shapes, stream: self.stream() };
        let (entry, made) = match self.take(&key) {
            Some(Entry::Recorded(recording)) => recording.replay_checked(inputs, work),
            Some(Entry::RanOnce) => self.record(inputs, work),
            _ => return Ok(work(inputs)?.tensors),
        };
        self.put(&key, entry);
        made
    }

    /// Drops all recordings, to free their memory, and records nothing more.
    pub fn clear(&self) {
        let mut entries = self.entries.hold();
        entries.list.retain(|(_, entry)| matches!(entry, Entry::InUse));
        entries.closed = true;
    }

    /// Number of recordings.
    pub fn recordings(&self) -> usize {
        self.entries.hold().recordings()
    }

    /// Runs the work and records it.
    fn record(&self, inputs: &[Tensor], work: &dyn Fn(&[Tensor]) -> Result<Made>) -> (Entry, Result<Vec<Tensor>>) {
        let made = match caught(|| work(inputs)) {
            Ok(made) => made,
            Err(error) => return (Entry::RanOnce, Err(error)),
        };
        if !made.repeatable {
            return (Entry::Refused, Ok(made.tensors));
        }
        let recording = caught(|| {
            // It is recorded with other numbers than it is checked with, which reveals inputs that the graph does not
            // read.
            let own: Vec<Tensor> = inputs.iter().map(other).collect();
            let again = || Ok(work(&own)?.tensors);
            let (graph, outputs) = match self.mode {
                Mode::Cuda(index) => Graph::record(index, again).map(|(graph, made)| (Some(graph), made))?,
                Mode::Eager => (None, again()?),
            };
            let mut recording = Recording { inputs: own, outputs, graph, checks: CHECKS };
            let replayed = recording.replay(inputs, work)?;
            recording.compare(&replayed, &made.tensors)?;
            Ok(recording)
        });
        let entry = match recording {
            Ok(recording) => Entry::Recorded(recording),
            Err(Error::Interrupted) => return (Entry::RanOnce, Err(Error::Interrupted)),
            Err(error) => refused(&error),
        };
        (entry, Ok(made.tensors))
    }

    /// Takes the entry of a key if it can be recorded or replayed now, and leaves [`Entry::InUse`] in its place. Work
    /// that runs for the first time is entered.
    fn take(&self, key: &Key) -> Option<Entry> {
        let mut entries = self.entries.hold();
        let full = entries.closed || entries.recordings() >= MOST_RECORDINGS;
        let Some((_, entry)) = entries.list.iter_mut().find(|(other, _)| other == key) else {
            if entries.list.len() >= MOST_ENTRIES
                && let Some(oldest) = entries.list.iter().position(|(_, entry)| matches!(entry, Entry::RanOnce))
            {
                entries.list.remove(oldest);
            }
            if entries.list.len() < MOST_ENTRIES {
                entries.list.push((key.clone(), Entry::RanOnce));
            }
            return None;
        };
        let usable = match entry {
            Entry::Recorded(_) => true,
            Entry::RanOnce => !full,
            Entry::InUse | Entry::Refused => false,
        };
        usable.then(|| std::mem::replace(entry, Entry::InUse))
    }

    /// Puts back what [`Self::take`] took.
    fn put(&self, key: &Key, entry: Entry) {
        let mut entries = self.entries.hold();
        let place = entries.list.iter_mut().find(|(other, _)| other == key);
        if let Some((_, place)) = place {
            *place = entry;
        }
    }

    fn stream(&self) -> usize {
        match self.mode {
            Mode::Cuda(index) => shim::cuda_stream(index).map_or(0, |stream| stream as usize),
            Mode::Eager => 0,
        }
    }
}

impl Entries {
    /// Number of recordings; entries in use may hold one.
    fn recordings(&self) -> usize {
        self.list.iter().filter(|(_, entry)| matches!(entry, Entry::Recorded(_) | Entry::InUse)).count()
    }
}

/// Recorded work, with the tensors that it reads and writes.
#[derive(Debug)]
struct Recording {
    inputs: Vec<Tensor>,
    // Dropped before the graph, whose memory pool holds them.
    outputs: Vec<Tensor>,
    graph: Option<Graph>,
    /// Number of checks that are left.
    checks: usize,
}

impl Recording {
    /// Replays the work. Until all checks are done, it runs the work too and compares the results.
    fn replay_checked(
        mut self,
        inputs: &[Tensor],
        work: &dyn Fn(&[Tensor]) -> Result<Made>,
    ) -> (Entry, Result<Vec<Tensor>>) {
        let replayed = caught(|| self.replay(inputs, work));
        if matches!(replayed, Err(Error::Interrupted)) {
            return (Entry::Recorded(self), replayed);
        }
        if self.checks == 0 {
            return match replayed {
                Ok(replayed) => (Entry::Recorded(self), Ok(replayed)),
                Err(error) => (refused(&error), Err(error)),
            };
        }
        let made = match caught(|| work(inputs)) {
            Ok(made) => made.tensors,
            Err(error) => return (Entry::Recorded(self), Err(error)),
        };
        match replayed.and_then(|replayed| caught(|| self.compare(&replayed, &made))) {
            Ok(()) => (Entry::Recorded(self), Ok(made)),
            Err(error) => (refused(&error), Ok(made)),
        }
    }

    /// Copies the inputs to the recorded tensors, runs the graph, and returns copies of its outputs.
    fn replay(&self, inputs: &[Tensor], work: &dyn Fn(&[Tensor]) -> Result<Made>) -> Result<Vec<Tensor>> {
        for (own, x) in self.inputs.iter().zip(inputs) {
            own.shallow_clone().copy_(x);
        }
        match &self.graph {
            Some(graph) => graph.replay()?,
            None => {
                for (output, made) in self.outputs.iter().zip(work(&self.inputs)?.tensors) {
                    output.shallow_clone().copy_(&made);
                }
            }
        }
        Ok(self.outputs.iter().map(Tensor::copy).collect())
    }

    /// Compares replayed results with those of the work.
    fn compare(&mut self, replayed: &[Tensor], made: &[Tensor]) -> Result<()> {
        let distances = replayed.iter().zip(made).map(|(replayed, made)| self_check::distance(replayed, made));
        let distance = distances.fold(0.0, f64::max);
        if replayed.len() != made.len() || distance > TOLERANCE {
            return Err(Error::Internal(anyhow::anyhow!(
                "its numbers are {distance:.1e} from those of the work, relative"
            )));
        }
        self.checks -= 1;
        Ok(())
    }
}

fn refused(error: &Error) -> Entry {
    warnings::push(format!(
        "some work is not started as a recorded graph: {error}. Results do not depend on it, only speed; without \
         {GRAPHS}=1 nothing is recorded"
    ));
    Entry::Refused
}

/// A tensor like `x` with other valid numbers; integers, which may be indices or counts, do not become larger.
fn other(x: &Tensor) -> Tensor {
    if x.is_floating_point() { x * 0.5 + 0.25 } else { x.clamp_max(1) }
}
