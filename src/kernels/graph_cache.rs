//! Small work that comes again is recorded, so that a GPU gets its hundreds of kernels as one: one evaluation of the UNet
//! gives an H200 about as much to do as it takes to start its kernels one by one.

use tch::{Kind, Tensor};

use super::graph::Graph;
use super::{GRAPHS, self_check, shim};
use crate::runtime::{Lock, caught, warnings};
use crate::{Error, Result};

/// Most records, each of which keeps the memory that its work needs.
const MOST_RECORDS: usize = 8;
/// Most kinds of work that are remembered at all.
const MOST_KNOWN: usize = 64;
/// How often a record is compared with the work itself before it is trusted.
const CHECKS: usize = 3;
/// How far their numbers may be apart, relative to the largest: the kernels are the same.
const TOLERANCE: f64 = 1e-4;

/// How work is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As a graph of the CUDA device of this index.
    Cuda(usize),
    /// Not at all: a record is the work done again, on its tensors. For tests where there is no device.
    Eager,
}

/// What work makes.
pub struct Made {
    pub tensors: Vec<Tensor>,
    /// Whether they depend on nothing but the tensors that it was given.
    pub repeatable: bool,
}

/// Work that was recorded, or may come to be.
#[derive(Debug)]
pub struct GraphCache {
    mode: Mode,
    known: Lock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    entries: Vec<(Key, Entry)>,
    /// Whether nothing more is to be recorded.
    full: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Key {
    what: String,
    inputs: Vec<(Vec<i64>, Kind)>,
    /// Work of different streams would meet in the tensors of a record.
    stream: usize,
}

#[derive(Debug)]
enum Entry {
    Seen,
    /// In somebody's hands; others do the work themselves meanwhile.
    Taken,
    Ready(Record),
    Refused,
}

impl GraphCache {
    /// Nothing is recorded yet.
    pub fn new(mode: Mode) -> Self {
        GraphCache { mode, known: Lock::default() }
    }

    /// Others of the same mode.
    pub fn anew(&self) -> Self {
        GraphCache::new(self.mode)
    }

    /// What `work` makes of `inputs`; work that was seen before is recorded, and what is recorded is not done again but
    /// started. `what` and the shapes of the inputs say all that the work depends on beside their numbers.
    pub fn run(&self, what: &str, inputs: &[Tensor], work: &dyn Fn(&[Tensor]) -> Result<Made>) -> Result<Vec<Tensor>> {
        let shapes = inputs.iter().map(|x| (x.size(), x.kind())).collect();
        let key = Key { what: what.to_owned(), inputs: shapes, stream: self.stream() };
        let (entry, made) = match self.take(&key) {
            Some(Entry::Ready(record)) => record.follow(inputs, work),
            Some(Entry::Seen) => self.record(inputs, work),
            _ => return Ok(work(inputs)?.tensors),
        };
        self.put(&key, entry);
        made
    }

    /// Forgets what was recorded, which takes memory that is needed elsewhere, and records nothing more.
    pub fn clear(&self) {
        let mut known = self.known.hold();
        known.entries.retain(|(_, entry)| matches!(entry, Entry::Taken));
        known.full = true;
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.known.hold().records()
    }

    /// Does the work and records it.
    fn record(&self, inputs: &[Tensor], work: &dyn Fn(&[Tensor]) -> Result<Made>) -> (Entry, Result<Vec<Tensor>>) {
        let made = match caught(|| work(inputs)) {
            Ok(made) => made,
            Err(error) => return (Entry::Seen, Err(error)),
        };
        if !made.repeatable {
            return (Entry::Refused, Ok(made.tensors));
        }
        let record = caught(|| {
            // Other numbers than it is compared with: what a record does not read from its tensors is then found out.
            let own: Vec<Tensor> = inputs.iter().map(other).collect();
            let again = || Ok(work(&own)?.tensors);
            let (graph, outputs) = match self.mode {
                Mode::Cuda(index) => Graph::record(index, again).map(|(graph, made)| (Some(graph), made))?,
                Mode::Eager => (None, again()?),
            };
            let mut record = Record { inputs: own, outputs, graph, checks: CHECKS };
            let found = record.replay(inputs, work)?;
            record.compare(&found, &made.tensors)?;
            Ok(record)
        });
        let entry = match record {
            Ok(record) => Entry::Ready(record),
            Err(Error::Interrupted) => return (Entry::Seen, Err(Error::Interrupted)),
            Err(error) => refused(&error),
        };
        (entry, Ok(made.tensors))
    }

    fn take(&self, key: &Key) -> Option<Entry> {
        let mut known = self.known.hold();
        let full = known.full || known.records() >= MOST_RECORDS;
        let Some((_, entry)) = known.entries.iter_mut().find(|(other, _)| other == key) else {
            if known.entries.len() >= MOST_KNOWN
                && let Some(oldest) = known.entries.iter().position(|(_, entry)| matches!(entry, Entry::Seen))
            {
                known.entries.remove(oldest);
            }
            if known.entries.len() < MOST_KNOWN {
                known.entries.push((key.clone(), Entry::Seen));
            }
            return None;
        };
        let usable = match entry {
            Entry::Ready(_) => true,
            Entry::Seen => !full,
            Entry::Taken | Entry::Refused => false,
        };
        usable.then(|| std::mem::replace(entry, Entry::Taken))
    }

    fn put(&self, key: &Key, entry: Entry) {
        let mut known = self.known.hold();
        let place = known.entries.iter_mut().find(|(other, _)| other == key);
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

impl Known {
    /// Those that are taken may be records.
    fn records(&self) -> usize {
        self.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Ready(_) | Entry::Taken)).count()
    }
}

/// Recorded work, and the tensors that it reads and writes.
#[derive(Debug)]
struct Record {
    inputs: Vec<Tensor>,
    // Before the graph, in whose memory they lie.
    outputs: Vec<Tensor>,
    graph: Option<Graph>,
    /// Comparisons that are left.
    checks: usize,
}

impl Record {
    /// What the record makes, which is compared with what `work` makes until it is trusted.
    fn follow(mut self, inputs: &[Tensor], work: &dyn Fn(&[Tensor]) -> Result<Made>) -> (Entry, Result<Vec<Tensor>>) {
        let found = caught(|| self.replay(inputs, work));
        if matches!(found, Err(Error::Interrupted)) {
            return (Entry::Ready(self), found);
        }
        if self.checks == 0 {
            return match found {
                Ok(found) => (Entry::Ready(self), Ok(found)),
                Err(error) => (refused(&error), Err(error)),
            };
        }
        let made = match caught(|| work(inputs)) {
            Ok(made) => made.tensors,
            Err(error) => return (Entry::Ready(self), Err(error)),
        };
        match found.and_then(|found| caught(|| self.compare(&found, &made))) {
            Ok(()) => (Entry::Ready(self), Ok(made)),
            Err(error) => (refused(&error), Ok(made)),
        }
    }

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

    fn compare(&mut self, found: &[Tensor], made: &[Tensor]) -> Result<()> {
        let distances = found.iter().zip(made).map(|(found, made)| self_check::distance(found, made));
        let distance = distances.fold(0.0, f64::max);
        if found.len() != made.len() || distance > TOLERANCE {
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

/// A tensor like `x` with other numbers, which are as good to compute with: numbers of things stay below what they were.
fn other(x: &Tensor) -> Tensor {
    if x.is_floating_point() { x * 0.5 + 0.25 } else { x.clamp_max(1) }
}
