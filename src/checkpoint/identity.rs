//! The identity of a model: checksums of everything that a score depends on, independent of file names and folders.
//!
//! A checksum reads all weights: two threads take 0.5 s for 5.2 GB that the system has cached. It is stored in the
//! user's cache folder under the file's properties (device, inode, size, both times), so that each file is read only
//! once.

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

/// Bytes per CRC-32, which detects every change within 32 bits, and other changes with probability 1 − 2⁻³².
const BLOCK: usize = 1 << 20;

/// More threads than this are limited by memory bandwidth.
const MOST_THREADS: usize = 4;

/// Numbers sampled of each weight, including the first and the last.
const SAMPLES: u64 = 4;

/// Raised when the same files get another checksum than before.
const VERSION: u32 = 1;

/// Fields of a configuration that say where and by what it was written.
const NO_SETTINGS: [&str; 3] = ["_diffusers_version", "_name_or_path", "transformers_version"];

/// The identity of one network's weights: a checksum of all numbers, and a sample for files that store the same numbers
/// in another type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    #[serde(rename = "digest")]
    /// [`Part::checksum`].
    pub checksum: String,
    /// The types that the files store weights in, as `F16,F32`.
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

    /// The checksum of the weights, and a sample of them.
    ///
    /// # Errors
    /// As [`Self::checksum`].
    pub fn sampled(&self) -> Result<Sampled> {
        let mut types: Vec<String> = self.weights().map(|(_, entry)| format!("{:?}", entry.dtype)).collect();
        types.sort_unstable();
        types.dedup();
        let mut numbers = vec![];
        for (name, entry) in self.weights().filter(|(_, entry)| entry.numel() > 0) {
            let last = entry.numel() - 1;
            let places: Vec<u64> =
                (0..SAMPLES).map(|i| (u128::from(last * i) / u128::from(SAMPLES - 1)) as u64).collect();
            // JSON cannot hold NaN or infinities.
            numbers.extend(self.numbers(name, &places)?.iter().map(|x| if x.is_finite() { *x } else { 0.0 }));
        }
        Ok(Sampled { checksum: self.checksum()?.to_owned(), types: types.join(","), numbers })
    }

    /// The weights of floating-point type; files may also hold position indices.
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
        // The caller's thread works too; it is the only one that polls for Ctrl-C.
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
            // If it cannot be cached, it is computed again next time.
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

/// A checksum of those of the named files that exist in a folder.
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
