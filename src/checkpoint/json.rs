//! Configuration files. They are read once; fields are requested by name, and errors name file and field.

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
///
/// # Errors
/// `Checkpoint`, naming the file, if it cannot be read, is too large, or holds anything else.
pub fn read(path: &Path) -> Result<Json> {
    let fail = |why: String| Error::Checkpoint(format!("{}: {why}", path.display()));
    let size =
        std::fs::metadata(path).map_err(|why| fail(format!("cannot be read ({why}); is the model complete?")))?.len();
    if size > MAX_BYTES {
        return Err(fail(format!("{size} bytes is too large for a configuration")));
    }
    let text = std::fs::read(path).map_err(|why| fail(format!("cannot be read ({why})")))?;
    Json::parse(path, &text)
}

impl Json {
    /// A JSON object that was read from a file before.
    ///
    /// # Errors
    /// `Checkpoint`, naming the file, if the text is anything else.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Json> {
        let fields = serde_json::from_slice(text)
            .map_err(|why| Error::Checkpoint(format!("{}: is not a JSON object ({why})", path.display())))?;
        Ok(Json { path: path.to_owned(), fields })
    }

    /// All fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The field's value, or `default` if it is absent or null.
    ///
    /// # Errors
    /// `Checkpoint` if the value has another type.
    pub fn or<T: DeserializeOwned>(&self, field: &str, default: T) -> Result<T> {
        Ok(self.optional(field)?.unwrap_or(default))
    }

    /// The field's value, which must be present.
    ///
    /// # Errors
    /// `Checkpoint` if it is absent, null or of another type.
    pub fn required<T: DeserializeOwned>(&self, field: &str) -> Result<T> {
        self.optional(field)?.ok_or_else(|| self.error(field, "is missing"))
    }

    /// The field's value; `None` if it is absent or null.
    ///
    /// # Errors
    /// `Checkpoint` if the value has another type.
    pub fn optional<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|why| self.error(field, &format!("has the wrong type: {why}"))),
        }
    }

    /// The class of a part, in a pipeline's index.
    pub fn class_of(&self, part: &str) -> Option<String> {
        self.optional::<(Option<String>, Option<String>)>(part).ok().flatten().and_then(|(_, class)| class)
    }

    /// Refuses a configuration whose `field` is anything but absent, null or one of `allowed`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the value.
    pub fn only(&self, field: &str, allowed: &[Value]) -> Result<()> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if allowed.contains(value) => Ok(()),
            Some(value) => Err(self.error(field, &format!("is {value}, which is not supported"))),
        }
    }

    /// Refuses fields that are null: an absent field means its default, but diffusers takes null for "no".
    ///
    /// # Errors
    /// `Checkpoint`, naming the field.
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

    /// A whole number from 1 to 2^20, or a default.
    ///
    /// # Errors
    /// `Checkpoint` if the value is out of range or of another type, or absent without a default.
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
