//! By what a model is known: checksums of all that a score depends on, whatever its files are called and wherever they
//! lie.
//!
//! A checksum reads all weights: 5.2 GB in 0.5 s by two threads where the system has them in memory. It is kept in the
//! user's cache folder under what the file system says of the file (device, inode, size, both times), so a file is read
//! for it once.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::part::{Entry, Part, kind_of};
use super::tensors::write_atomically;
use crate::runtime::check_interrupt;
use crate::{Error, Result};

/// Bytes to a checksum. One of 32 bits notices every change within 32 bits for certain, and others but for one in 2^32.
const BLOCK: usize = 1 << 20;

/// More threads than that wait for memory.
const MOST_THREADS: usize = 4;

/// Numbers taken of a weight, the first and the last among them.
const SAMPLES: u64 = 4;

/// Raised when the same files get another checksum than before.
const VERSION: u32 = 1;

/// What stands in a configuration that says where and by what it was written.
const NO_SETTINGS: [&str; 3] = ["_diffusers_version", "_name_or_path", "transformers_version"];

/// The weights of one network, as deltas recognise them: by all numbers, or, where the files have them in another type,
/// by a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    #[serde(rename = "digest")]
    pub checksum: String,
    /// The types that the files have weights in, as `F16,F32`.
    pub types: String,
    /// Evenly spaced numbers of every weight, by name.
    pub numbers: Vec<f32>,
}

impl Part {
    /// A checksum of names, shapes, types and numbers, 16 hexadecimal digits; the order of weights and their division
    /// into files make no difference.
    ///
    /// # Errors
    /// `Checkpoint` if a file was written to since it was opened; `Interrupted`.
    pub fn checksum(&self) -> Result<&str> {
        if let Some(known) = self.checksum.get() {
            return Ok(known);
        }
        let mut sum = 0u64;
        for file in 0..self.files.len() {
            sum = sum.wrapping_add(self.of_file(file)?);
        }
        Ok(self.checksum.get_or_init(|| format!("{sum:016x}")))
    }

    /// A sample of the weights beside their checksum.
    pub fn sampled(&self) -> Result<Sampled> {
        let mut types: Vec<String> = self.weights().map(|(_, entry)| format!("{:?}", entry.dtype)).collect();
        types.sort_unstable();
        types.dedup();
        let mut numbers = vec![];
        for (name, entry) in self.weights().filter(|(_, entry)| entry.numel() > 0) {
            let last = entry.numel() - 1;
            let places: Vec<u64> =
                (0..SAMPLES).map(|i| (u128::from(last * i) / u128::from(SAMPLES - 1)) as u64).collect();
            // Plain data has no sign for what is no number.
            numbers.extend(self.numbers(name, &places)?.iter().map(|x| if x.is_finite() { *x } else { 0.0 }));
        }
        Ok(Sampled { checksum: self.checksum()?.to_owned(), types: types.join(","), numbers })
    }

    /// What a network is made of; files hold numbers of positions beside.
    fn weights(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter().filter(|(_, entry)| kind_of(entry.dtype).is_some())
    }

    /// The sum of its weights' checksums.
    fn of_file(&self, file: usize) -> Result<u64> {
        let source = &self.files[file];
        source.check()?;
        let kept = source.name().and_then(|name| Some(cache()?.join(format!("{name}-{VERSION}"))));
        let known = kept.as_ref().and_then(|path| fs::read_to_string(path).ok());
        if let Some(known) = known.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()) {
            return Ok(known);
        }
        let entries: Vec<_> = self.weights().filter(|(_, entry)| entry.file == file).collect();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = |poll: &dyn Fn() -> Result<()>| {
            let mut buffer = vec![0; BLOCK];
            let mut sum = 0u64;
            while let Some((name, entry)) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
                sum = sum.wrapping_add(self.of_weight(name, entry, &mut buffer, poll)?);
            }
            Ok(sum)
        };
        // The caller's thread works too, and alone is told of Ctrl-C.
        let stopped = || if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) };
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS).min(entries.len());
        let sums: Vec<Result<u64>> = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| work(&stopped))).collect();
            let own = work(&check_interrupt);
            stop.store(own.is_err(), Ordering::Relaxed);
            std::iter::once(own)
                .chain(others.into_iter().map(|other| other.join().expect("it panics nowhere")))
                .collect()
        });
        let sum = sums.into_iter().try_fold(0u64, |sum, one| Ok::<_, Error>(sum.wrapping_add(one?)))?;
        if let Some(path) = kept {
            // Without a cache it is computed again.
            let _ = path
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| write_atomically(&path, format!("{sum:016x}").as_bytes()));
        }
        Ok(sum)
    }

    fn of_weight(&self, name: &str, entry: &Entry, buffer: &mut [u8], poll: &dyn Fn() -> Result<()>) -> Result<u64> {
        let source: &Arc<_> = &self.files[entry.file];
        // Older files of a text encoder have a prefix that newer ones lack.
        let name = name.strip_prefix("text_model.").unwrap_or(name);
        let mut found = Fnv::new(&format!("{name} {:?} {:?}", entry.dtype, entry.shape));
        let mut at = 0;
        while at < entry.bytes {
            poll()?;
            let block = &mut buffer[..BLOCK.min((entry.bytes - at) as usize)];
            source.read(entry.start + at, block)?;
            found.add(&crc32fast::hash(block).to_le_bytes());
            at += block.len() as u64;
        }
        Ok(found.0)
    }
}

/// A checksum of a configuration's settings, whatever their order.
pub(super) fn of_settings(fields: &Map<String, Value>) -> String {
    let settings: BTreeMap<_, _> = fields.iter().filter(|(name, _)| !NO_SETTINGS.contains(&name.as_str())).collect();
    Fnv::new(&serde_json::to_string(&settings).expect("it was JSON")).hex()
}

/// A checksum of the files of these names in a folder, as far as they are there.
pub(super) fn of_files(folder: &Path, names: &[&str]) -> String {
    let mut found = Fnv::new("");
    for name in names {
        if let Ok(bytes) = fs::read(folder.join(name)) {
            found.add(format!("{name} {} ", bytes.len()).as_bytes());
            found.add(&crc32fast::hash(&bytes).to_le_bytes());
        }
    }
    found.hex()
}

/// One checksum of several.
pub fn together<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut found = Fnv::new("");
    for part in parts {
        found.add(part.as_bytes());
        found.add(b" ");
    }
    found.hex()
}

/// FNV-1a of 64 bits: the same on every machine and in every release.
struct Fnv(u64);

impl Fnv {
    fn new(text: &str) -> Self {
        let mut found = Fnv(0xcbf2_9ce4_8422_2325);
        found.add(text.as_bytes());
        found
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Where checksums are kept, if there is such a place.
fn cache() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("discffusion").join("digests"))
}
