//! A file of weights that stays open and is read piece by piece into the process's own memory.
//!
//! It is not memory-mapped: a mapped file that is truncated ends the process, one that is rewritten changes numbers in
//! use, and some file systems cannot map. A piece that is read late comes from the file as it was opened, or is an
//! error.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// An open file, and its properties when it was opened.
pub struct Source {
    path: PathBuf,
    file: File,
    stamp: Stamp,
}

/// The properties of a file by which changes are detected. Programs cannot set `changed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Time of the last write to the contents, seconds and nanoseconds.
    written: (i64, i64),
    /// Time of the last change of contents or properties, seconds and nanoseconds.
    changed: (i64, i64),
    /// Number of names, permissions, owner and group: they may change without the contents.
    properties: [u64; 4],
}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |why| Error::Checkpoint(format!("{}: cannot be opened ({why})", path.display()));
        let file = File::open(path).map_err(fail)?;
        let stamp = Stamp::of(&file.metadata().map_err(fail)?);
        Ok(Source { path: path.to_owned(), file, stamp })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.stamp.size
    }

    /// Fills `buffer` with the bytes from `start` on.
    ///
    /// # Errors
    /// `Checkpoint` if they cannot be read, or the file is not as it was when it was opened.
    pub fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(buffer, start);
        // Checked after reading, so that concurrent writes are noticed too.
        self.check()?;
        read.map_err(|why| self.error(&format_args!("cannot be read ({why})")))
    }

    /// Refuses a file that was written to since it was opened.
    pub fn check(&self) -> Result<()> {
        let now = self.file.metadata().map_err(|why| self.error(&format_args!("cannot be read ({why})")))?;
        if Stamp::of(&now).same_contents(&self.stamp) {
            return Ok(());
        }
        Err(self.error(&"was written to after the model was loaded from it; load the model again"))
    }

    pub fn error(&self, what: &dyn std::fmt::Display) -> Error {
        Error::Checkpoint(format!("{}: {what}", self.path.display()))
    }

    /// A name for the contents from the file's properties; `None` if the file is so new that another write might not
    /// change them.
    pub fn name(&self) -> Option<String> {
        // File systems with coarse clocks give two writes within this time the same stamp.
        const COARSE: Duration = Duration::from_secs(3);
        let Stamp { device, inode, size, written, changed, .. } = self.stamp;
        let seconds = u64::try_from(written.0.max(changed.0)).ok()?;
        let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(seconds)).ok()?;
        let name =
            format!("{device:x}-{inode:x}-{size:x}-{:x}.{:x}-{:x}.{:x}", written.0, written.1, changed.0, changed.1);
        (age > COARSE).then_some(name)
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Stamp {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
            properties: [file.nlink(), file.mode().into(), file.uid().into(), file.gid().into()],
        }
    }

    fn same_contents(&self, other: &Stamp) -> bool {
        let file = |stamp: &Stamp| (stamp.device, stamp.inode, stamp.size, stamp.written);
        // A program that writes and then resets the time of writing changes `changed` without any of the properties.
        file(self) == file(other) && (self.changed == other.changed || self.properties != other.properties)
    }
}
