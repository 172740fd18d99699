//! The files of one network, and the location of each weight in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use tch::{Kind, Tensor};

use super::json;
use super::source::Source;
use crate::{Error, Result};

/// Bytes of the header's length, which a safetensors file begins with.
const LENGTH: u64 = 8;

/// The longest header that the format allows, bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The open files of one network.
pub struct Part {
    dir: PathBuf,
    pub(super) files: Vec<Arc<Source>>,
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) checksum: OnceLock<String>,
}

/// The location, type and shape of a weight.
pub(super) struct Entry {
    pub file: usize,
    pub start: u64,
    pub bytes: u64,
    pub dtype: Dtype,
    pub shape: Vec<i64>,
}

impl Part {
    /// Opens `dir/stem[.variant].safetensors`, or the shards that its `.index.json` lists. A variant that `dir` lacks
    /// falls back to the plain files.
    ///
    /// # Errors
    /// `Checkpoint`, naming the file, if one is missing or is not complete.
    pub fn open(dir: &Path, stem: &str, variant: Option<&str>) -> Result<Self> {
        let mut part = Part { dir: dir.to_owned(), files: vec![], entries: BTreeMap::new(), checksum: OnceLock::new() };
        for path in find(dir, stem, variant)? {
            part.add(Source::open(&path)?)?;
        }
        Ok(part)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn add(&mut self, source: Source) -> Result<()> {
        let (start, header) = header(&source)?;
        for (name, info) in header.tensors() {
            let (from, to) = info.data_offsets;
            let entry = Entry {
                file: self.files.len(),
                start: start + from as u64,
                bytes: (to - from) as u64,
                dtype: info.dtype,
                shape: info.shape.iter().map(|&n| n as i64).collect(),
            };
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(source.error(&format_args!("{name} is stored twice")));
            }
        }
        self.files.push(Arc::new(source));
        Ok(())
    }

    /// The numbers of the weight `name` at these positions, as float32; none if the weight is not of floating-point
    /// type.
    ///
    /// # Errors
    /// `Checkpoint` if they cannot be read, or the file was written to since it was opened.
    pub fn numbers(&self, name: &str, places: &[u64]) -> Result<Vec<f32>> {
        let Some((entry, kind)) = self.entries.get(name).and_then(|entry| Some((entry, kind_of(entry.dtype)?))) else {
            return Ok(vec![]);
        };
        let size = kind.elt_size_in_bytes();
        let mut bytes = vec![0; size * places.len()];
        for (place, buffer) in places.iter().zip(bytes.chunks_mut(size)) {
            self.files[entry.file].read(entry.start + place * size as u64, buffer)?;
        }
        let numbers = Tensor::f_from_data_size(&bytes, &[places.len() as i64], kind);
        Ok(crate::device::to_vec(&numbers.map_err(|why| crate::runtime::from_tch(&why))?))
    }
}

impl Entry {
    pub fn numel(&self) -> u64 {
        self.shape.iter().product::<i64>() as u64
    }
}

/// The offset of a file's data, and its header.
fn header(source: &Source) -> Result<(u64, Metadata)> {
    let incomplete = |why: &dyn std::fmt::Display| {
        source.error(&format_args!("is not a complete safetensors file ({why}); download or copy it again"))
    };
    let room = source.size().checked_sub(LENGTH).ok_or_else(|| incomplete(&"it is too short for a header"))?;
    let mut length = [0; LENGTH as usize];
    source.read(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > room.min(MAX_HEADER) {
        return Err(incomplete(&format_args!("its header has {length} bytes, the file {}", source.size())));
    }
    let mut text = vec![0; length as usize];
    source.read(LENGTH, &mut text)?;
    let header: Metadata = serde_json::from_slice(&text).map_err(|why| incomplete(&why))?;
    let data = header.data_len() as u64;
    if data != room - length {
        return Err(incomplete(&format_args!("its weights have {data} bytes, and there are {}", room - length)));
    }
    Ok((LENGTH + length, header))
}

/// libtorch's type for a stored type, if that is one of the floating-point types of weights.
pub(super) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

fn find(part: &Path, stem: &str, variant: Option<&str>) -> Result<Vec<PathBuf>> {
    let named = |variant: Option<&str>| match variant {
        Some(variant) => format!("{stem}.{variant}.safetensors"),
        None => format!("{stem}.safetensors"),
    };
    let mut tried = vec![];
    // A part that has only one of the plain and the fp16 file is complete, whichever was asked for.
    let other = if variant.is_none() { Some("fp16") } else { None };
    for variant in [variant, other] {
        let single = part.join(named(variant));
        if single.is_file() {
            return Ok(vec![single]);
        }
        // The variant comes after the index's own name: `model.safetensors.index.fp16.json`.
        let index = part.join(match variant {
            Some(variant) => format!("{stem}.safetensors.index.{variant}.json"),
            None => format!("{stem}.safetensors.index.json"),
        });
        if index.is_file() {
            return shards(part, &index);
        }
        tried.push(named(variant));
    }
    Err(Error::Checkpoint(format!(
        "{}: no weights found; looked for {} (or a .safetensors.index.json). Pickled .bin files are not read: convert \
         them to safetensors",
        part.display(),
        tried.join(", ")
    )))
}

fn shards(part: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let map: BTreeMap<String, String> = json::read(index)?.required("weight_map")?;
    let names: BTreeSet<&String> = map.values().collect();
    for name in &names {
        // The index must not lead out of its folder.
        if Path::new(name.as_str()).components().count() != 1 || name.starts_with("..") {
            return Err(Error::Checkpoint(format!("{}: {name:?} is not a plain file name", index.display())));
        }
    }
    Ok(names.into_iter().map(|name| part.join(name)).collect())
}
