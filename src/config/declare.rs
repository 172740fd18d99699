//! One declaration of an option gives its field, default, check, JSON, and the row that Python and the command line read.

use serde::Serialize;
use serde_json::{Map, Value};

use super::rules::{Allowed, Rule};
use crate::{Error, Result};

/// Options by name, as JSON has them.
pub type Fields = Map<String, Value>;

/// One option as users see it.
#[derive(Debug, Clone, Serialize)]
pub struct OptionSpec {
    /// The name that users type.
    pub name: &'static str,
    /// One sentence: what it is, the range of its values, and what null stands for.
    pub help: String,
    /// The values that it takes.
    #[serde(flatten)]
    pub allowed: Allowed,
    /// The default, as JSON.
    pub default: Value,
}

impl OptionSpec {
    /// The row of an option but for its default.
    pub fn new(name: &'static str, help: &str, allowed: Allowed) -> Self {
        OptionSpec { name, help: help.trim().trim_end_matches('.').to_owned(), allowed, default: Value::Null }
    }

    /// Adds the default, and the range and the meaning of null to the sentence.
    pub fn complete(&mut self, default: Value) {
        if let Some(range) = &self.allowed.range {
            self.help = format!("{}; {range}", self.help);
        }
        if let Some(null) = self.allowed.null.filter(|null| !null.is_empty()) {
            self.help = format!("{}; {}: {null}", self.help, if default.is_null() { "default" } else { "none" });
        }
        self.help.push('.');
        self.default = default;
    }
}

/// A field of a configuration: one option that follows a [`Rule`], or several options that are one value.
pub trait Field<T> {
    fn rows(&self, name: &'static str, help: &str) -> Vec<OptionSpec>;
    /// The value that is given, or `default`.
    fn read(&self, name: &str, fields: &Fields, default: T) -> Result<T>;
    fn write(&self, name: &str, value: &T, fields: &mut Fields);
}

impl<T> Field<T> for Rule<T> {
    fn rows(&self, name: &'static str, help: &str) -> Vec<OptionSpec> {
        let default = self.omitted.clone().unwrap_or_default();
        vec![OptionSpec { default, ..OptionSpec::new(name, help, self.allowed.clone()) }]
    }

    fn read(&self, name: &str, fields: &Fields, default: T) -> Result<T> {
        // An absent option and null are the same.
        fields.get(name).filter(|value| !value.is_null()).map_or(Ok(default), |value| self.parse(name, value))
    }

    fn write(&self, name: &str, value: &T, fields: &mut Fields) {
        let value = self.value(value);
        if self.omitted.as_ref() != Some(&value) {
            fields.insert(name.to_owned(), value);
        }
    }
}

/// Refuses a name that is no option, with the nearest one that is.
pub fn check_name(kind: &str, name: &str, names: &[&str]) -> Result<()> {
    if names.contains(&name) {
        return Ok(());
    }
    Err(Error::Config(format!("unknown {kind} '{name}'{}; there are {}", did_you_mean(name, names), names.join(", "))))
}

/// ` (did you mean 'steps'?)`, or nothing where no name is near.
pub fn did_you_mean(name: &str, names: &[&str]) -> String {
    let nearest = names.iter().map(|other| (likeness(name, other), other)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, other)) if likeness >= 0.6 => format!(" (did you mean '{other}'?)"),
        _ => String::new(),
    }
}

/// The share of letters that two names have in common, in order; 0 to 1.
fn likeness(a: &str, b: &str) -> f64 {
    let b: Vec<char> = b.chars().collect();
    let mut longest = vec![0; b.len() + 1];
    let mut letters = 0;
    for letter in a.chars() {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = longest[j + 1];
            longest[j + 1] = if letter == *other { diagonal + 1 } else { above.max(longest[j]) };
            diagonal = above;
        }
        letters += 1;
    }
    2.0 * f64::from(longest[b.len()]) / (letters + b.len()).max(1) as f64
}

/// Declares an option of named choices: the enum, its names in order, and the way back and forth.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// The names that users type, in order.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// The name that users type.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The choice of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }
        }

        impl $crate::config::rules::Choice for $name {
            const NAMES: &'static [&'static str] = $name::NAMES;
            fn name(self) -> &'static str { self.name() }
            fn from_name(name: &str) -> Option<Self> { $name::from_name(name) }
        }
    };
}

/// Declares a configuration. `"option"` is what one of its options is called in errors; a field is
/// `/// help`, `name as "name that users type": type = default, rule;`.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $config:ident: $kind:literal $(, check = $check:path)? {
            $($(#[doc = $help:literal])+ $field:ident $(as $name:literal)?: $type:ty = $default:expr, $rule:expr;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $config { $($(#[doc = $help])+ pub $field: $type),+ }

        impl Default for $config {
            fn default() -> Self {
                $config { $($field: $default),+ }
            }
        }

        impl $config {
            /// What users can say of each option, in order.
            pub fn options() -> &'static [$crate::config::OptionSpec] {
                static OPTIONS: std::sync::LazyLock<Vec<$crate::config::OptionSpec>> = std::sync::LazyLock::new(|| {
                    use $crate::config::declare::Field;
                    let defaults = $config::default().to_fields();
                    let mut rows = vec![];
                    $(rows.extend(Field::<$type>::rows(&$rule, options!(@name $field $($name)?), concat!($($help),+)));)+
                    for row in &mut rows {
                        let omitted = std::mem::take(&mut row.default);
                        row.complete(defaults.get(row.name).cloned().unwrap_or(omitted));
                    }
                    rows
                });
                &OPTIONS
            }

            /// Refuses a name that is no option.
            ///
            /// # Errors
            /// `Config`, naming all options and the nearest one.
            pub fn check_name(name: &str) -> $crate::Result<()> {
                let names: Vec<&str> = Self::options().iter().map(|option| option.name).collect();
                $crate::config::declare::check_name($kind, name, &names)
            }

            /// The configuration with these options; the others, and those that are null, have their defaults.
            ///
            /// # Errors
            /// `Config`, naming the option, what was given and what is allowed.
            pub fn from_fields(fields: &$crate::config::Fields) -> $crate::Result<Self> {
                use $crate::config::declare::Field;
                fields.keys().try_for_each(|name| Self::check_name(name))?;
                let default = Self::default();
                let config = $config {
                    $($field: Field::<$type>::read(&$rule, options!(@name $field $($name)?), fields, default.$field)?),+
                };
                $($check(&config)?;)?
                Ok(config)
            }

            /// Reads a JSON object as [`Self::from_fields`] does.
            ///
            /// # Errors
            /// `Config`, naming the option, what was given and what is allowed.
            pub fn from_json(text: &str) -> $crate::Result<Self> {
                let fields = serde_json::from_str(text).map_err(|why| {
                    $crate::Error::Config(format!(concat!("expected a JSON object of ", $kind, "s ({})"), why))
                })?;
                Self::from_fields(&fields)
            }

            /// All options, but for those that are left out where they are null.
            pub fn to_fields(&self) -> $crate::config::Fields {
                use $crate::config::declare::Field;
                let mut fields = $crate::config::Fields::new();
                $(Field::<$type>::write(&$rule, options!(@name $field $($name)?), &self.$field, &mut fields);)+
                fields
            }

            /// [`Self::to_fields`] as a JSON object, sorted by name.
            pub fn to_json(&self) -> String {
                serde_json::Value::Object(self.to_fields()).to_string()
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
}
