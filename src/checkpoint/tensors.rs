//! Small safetensors files of this crate. They are read as a whole, verified by a checksum, and written atomically.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::part::kind_of;
use crate::device::to_vec;

/// The metadata key of the checksum over all tensors.
const CHECKSUM: &str = "discffusion.crc32";

/// Named float32 tensors on the CPU and string metadata.
#[derive(Default)]
pub struct TensorFile {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The metadata, without the checksum.
    pub metadata: HashMap<String, String>,
    /// Whether the file has a checksum; a wrong one is an error.
    pub checked: bool,
}

impl TensorFile {
    /// Reads a file; numbers of other types are converted to float32.
    ///
    /// # Errors
    /// A sentence without subject, such as "is damaged", if the file cannot be read or is not a valid file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|why| format!("cannot be read ({why})"))?;
        Self::parse(&bytes)
    }

    /// Reads the contents of a file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let broken = |why| format!("is not a complete safetensors file ({why})");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let views = SafeTensors::deserialize(bytes).map_err(broken)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in views.iter() {
            let kind = (kind_of(view.dtype()).or_else(|| number_kind(view.dtype())))
                .ok_or_else(|| format!("holds {name} of type {:?}; expected a common type of number", view.dtype()))?;
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|why| why.to_string())?;
            tensors.insert(name.to_owned(), tensor.to_kind(Kind::Float));
        }
        let mut file = TensorFile { tensors, metadata, checked: false };
        if let Some(expected) = file.metadata.remove(CHECKSUM) {
            if expected != file.checksum(&file.encoded()) {
                return Err("is damaged: its contents do not have the checksum they were written with".into());
            }
            file.checked = true;
        }
        Ok(file)
    }

    /// Writes the file atomically, see [`write_atomically`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let data = self.encoded();
        let mut metadata = self.metadata.clone();
        metadata.insert(CHECKSUM.into(), self.checksum(&data));
        let views = self.tensors.iter().zip(&data).map(|((name, tensor), bytes)| {
            let shape = tensor.size().iter().map(|&n| n as usize).collect();
            (name, TensorView::new(Dtype::F32, shape, bytes).expect("four bytes a number"))
        });
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)?;
        write_atomically(path, &bytes)
    }

    fn encoded(&self) -> Vec<Vec<u8>> {
        let bytes = |tensor: &Tensor| to_vec(tensor).iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensors.values().map(bytes).collect()
    }

    /// A checksum of names, shapes, numbers and metadata.
    fn checksum(&self, data: &[Vec<u8>]) -> String {
        let mut hasher = crc32fast::Hasher::new();
        for (key, value) in self.metadata.iter().collect::<BTreeMap<_, _>>() {
            hasher.update(format!("{key}\0{value}\0").as_bytes());
        }
        for ((name, tensor), bytes) in self.tensors.iter().zip(data) {
            hasher.update(format!("{name}{:?}", tensor.size()).as_bytes());
            hasher.update(bytes);
        }
        format!("{:08x}", hasher.finalize())
    }
}

/// The types in which LoRA files store their scales.
fn number_kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::Double),
        Dtype::I64 => Some(Kind::Int64),
        Dtype::I32 => Some(Kind::Int),
        _ => None,
    }
}

/// Replaces the file at `path` by `bytes`, all or nothing: writes a temporary file beside it, which is then renamed. A
/// crash of the machine leaves the old or the new file, as far as the file system guarantees that. If several threads
/// or processes write to one path, the bytes of the last one stay.
///
/// # Errors
/// If the temporary file cannot be written or renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?.to_string_lossy();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".{name}.{}.{number}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        synced(file.sync_all())?;
        fs::rename(&temporary, path)
    })();
    match &written {
        // The bytes are in place. Network and user-space file systems may refuse to sync, or even to open, a folder.
        Ok(()) => drop(File::open(folder).and_then(|folder| folder.sync_all())),
        // The first error is returned; the temporary file may not exist.
        Err(_) => drop(fs::remove_file(&temporary)),
    }
    written
}

/// The outcome of a sync; file systems that do not support syncing are accepted.
fn synced(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(why) if matches!(why.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => Ok(()),
        outcome => outcome,
    }
}
