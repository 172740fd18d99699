//! Configuration files: read once, every field asked for by name, errors that say file and field.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::runtime::warnings;
use crate::{Error, Result};

/// No published configuration comes near this; a larger file is not a configuration.
const MAX_BYTES: u64 = 16 << 20;

/// A JSON object and the file it came from.
pub struct Json {
    path: PathBuf,
    fields: Map<String, Value>,
}

/// Reads a JSON object.
pub fn read(path: &Path) -> Result<Json> {
    let fail = |why: String| Error::Checkpoint(format!("{}: {why}", path.display()));
    let size =
        std::fs::metadata(path).map_err(|why| fail(format!("cannot be read ({why}); is the model complete?")))?.len();
    if size > MAX_BYTES {
        return Err(fail(format!("{size} bytes is too large for a configuration")));
    }
    let text = std::fs::read(path).map_err(|why| fail(format!("cannot be read ({why})")))?;
    let fields = serde_json::from_slice(&text).map_err(|why| fail(format!("is not a JSON object ({why})")))?;
    Ok(Json { path: path.to_owned(), fields })
}

impl Json {
    /// All of it.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The field's value; absent and null are both `default`.
    pub fn or<T: DeserializeOwned>(&self, field: &str, default: T) -> Result<T> {
        Ok(self.optional(field)?.unwrap_or(default))
    }

    /// The field's value, which must be there.
    pub fn required<T: DeserializeOwned>(&self, field: &str) -> Result<T> {
        self.optional(field)?.ok_or_else(|| self.error(field, "is missing"))
    }

    /// The field's value; absent and null are `None`.
    pub fn optional<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|why| self.error(field, &format!("has the wrong type: {why}"))),
        }
    }

    /// Refuses a configuration whose `field` is anything but absent, null or one of `allowed`.
    pub fn only(&self, field: &str, allowed: &[Value]) -> Result<()> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if allowed.contains(value) => Ok(()),
            Some(value) => Err(self.error(field, &format!("is {value}, which is not supported"))),
        }
    }

    /// Refuses fields that are null: absent, they mean their default, but diffusers takes null for "no".
    pub fn not_null(&self, fields: &[&str]) -> Result<()> {
        match fields.iter().find(|field| matches!(self.fields.get(**field), Some(Value::Null))) {
            None => Ok(()),
            Some(field) => Err(self.error(field, "is null, which is not supported")),
        }
    }

    /// Warns the user once, naming the file.
    pub fn warn(&self, what: &str) {
        warnings::push(format!("{}: {what}", self.path.display()));
    }

    /// A positive whole number, or a positive default.
    pub fn positive(&self, field: &str, default: Option<i64>) -> Result<i64> {
        let value = match default {
            Some(default) => self.or(field, default)?,
            None => self.required(field)?,
        };
        // Far above any real width, and low enough that products of a few of them stay in range.
        if (1..=1 << 20).contains(&value) {
            Ok(value)
        } else {
            Err(self.error(field, &format!("is {value}; expected 1 to 2^20")))
        }
    }

    /// An error that names the file and the field.
    pub fn error(&self, field: &str, what: &str) -> Error {
        Error::Checkpoint(format!("{}: {field} {what}", self.path.display()))
    }
}
