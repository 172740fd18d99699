//! What values an option takes: how they are read, written and described.

use std::ops::{Bound, RangeBounds};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{Error, Result};

/// What values an option takes, for Python and the command line.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Allowed {
    /// `choice`, `choice_or_names`, `choice_or_indices`, `bool`, `int`, `float`, `float_list`, `float_pair`, `int_pair` or
    /// `int_or_auto`.
    pub kind: &'static str,
    /// The choices, where there are some.
    pub choices: &'static [&'static str],
    /// The range of numbers in words, such as `1 to 4096`.
    pub range: Option<String>,
    /// What null stands for, where it is a value of its own; empty where there is nothing to say.
    pub null: Option<&'static str>,
}

/// A value; or what is wrong with it, or nothing where it is of no form that was expected.
pub type Outcome<T> = std::result::Result<T, Option<String>>;

/// Reads a value.
type Read<T> = Box<dyn Fn(&Value) -> Outcome<T>>;

/// How the value of one option is read, written and described.
pub struct Rule<T> {
    /// The same for Python and the command line.
    pub allowed: Allowed,
    /// What an error says was expected.
    expected: String,
    read: Read<T>,
    write: Box<dyn Fn(&T) -> Value>,
    /// A value that is not written, as before there was this option: what was saved then keeps its digest.
    pub omitted: Option<Value>,
}

impl<T> Rule<T> {
    /// A rule that reads a value, where it is of the form, and writes it. `expected` is what an error says of values that
    /// are not.
    pub fn new(
        kind: &'static str,
        expected: impl Into<String>,
        read: impl Fn(&Value) -> Option<T> + 'static,
        write: impl Fn(&T) -> Value + 'static,
    ) -> Self {
        let read = Box::new(move |value: &Value| read(value).ok_or(None));
        let allowed = Allowed { kind, ..Allowed::default() };
        Rule { allowed, expected: expected.into(), read, write: Box::new(write), omitted: None }
    }

    /// Lists the choices that users see.
    pub fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.allowed.choices = choices;
        self
    }

    fn range(mut self, range: String) -> Self {
        self.allowed.range = Some(range);
        self
    }

    /// Refuses some values of the right form.
    pub fn check(self, check: impl Fn(&T) -> Outcome<()> + 'static) -> Self
    where
        T: 'static,
    {
        let read = self.read;
        let checked = move |value: &Value| read(value).and_then(|read| check(&read).map(|()| read));
        Rule { read: Box::new(checked), ..self }
    }

    /// Does not write this value, which must be the default: see [`Rule::omitted`].
    pub fn omit(self, value: impl Into<Value>) -> Self {
        Rule { omitted: Some(value.into()), ..self }
    }

    /// The value of an option.
    ///
    /// # Errors
    /// `Config`, which names the option, what was given and what was expected.
    pub fn parse(&self, name: &str, value: &Value) -> Result<T> {
        (self.read)(value).map_err(|fault| {
            let fault = fault.unwrap_or_else(|| format!("is {value}; expected {}", self.expected));
            Error::Config(format!("{name} {fault}"))
        })
    }

    /// The value as JSON.
    pub fn value(&self, value: &T) -> Value {
        (self.write)(value)
    }
}

/// What `choices!` makes.
pub trait Choice: Copy {
    /// The names that users type, in order.
    const NAMES: &'static [&'static str];
    /// The name that users type.
    fn name(self) -> &'static str;
    /// The choice of that name.
    fn from_name(name: &str) -> Option<Self>;
}

/// One of the names of a [`Choice`].
pub fn one_of<T: Choice>() -> Rule<T> {
    let expected = format!("one of {}", T::NAMES.join(", "));
    Rule::new("choice", expected, |value| T::from_name(value.as_str()?), |choice| choice.name().into())
        .choices(T::NAMES)
}

/// True or false.
pub fn switch() -> Rule<bool> {
    Rule::new("bool", "true or false", Value::as_bool, |&yes| yes.into())
}

/// A finite number in a range.
pub fn number(range: impl RangeBounds<f64> + 'static) -> Rule<f64> {
    let words = range_words(&range, |x| short(*x));
    let finite = if matches!(range.end_bound(), Bound::Unbounded) { "finite " } else { "" };
    let expected = format!("a {finite}number{}", words.joined);
    let read = move |value: &Value| value.as_f64().filter(|x| x.is_finite() && range.contains(x));
    Rule::new("float", expected, read, |&x| x.into()).range(words.alone)
}

/// A finite number above another one.
pub fn above(least: f64) -> Rule<f64> {
    number((Bound::Excluded(least), Bound::Unbounded))
}

/// A whole number in a range.
pub fn whole<T: TryFrom<i64> + TryInto<i64> + Copy>(range: impl RangeBounds<i64> + 'static) -> Rule<T> {
    let words = range_words(&range, i64::to_string);
    let read = move |value: &Value| value.as_i64().filter(|n| range.contains(n)).and_then(|n| n.try_into().ok());
    let write = |&number: &T| number.try_into().ok().map_or(Value::Null, |number: i64| number.into());
    Rule::new("int", format!("a whole number{}", words.joined), read, write).range(words.alone)
}

/// A number of pixels in a range.
pub fn pixels<T: TryFrom<i64> + TryInto<i64> + Copy>(range: impl RangeBounds<i64> + 'static) -> Rule<T> {
    let words = range_words(&range, i64::to_string);
    let expected = format!("a number of pixels{}", words.joined);
    Rule { expected, ..whole(range) }.range(format!("{} pixels", words.alone))
}

/// A list of at least one value.
pub fn list<T: 'static>(kind: &'static str, each: Rule<T>) -> Rule<Vec<T>> {
    let range = format!("each {}", each.allowed.range.unwrap_or_default());
    let (read, write) = (each.read, each.write);
    let read = move |value: &Value| {
        let list: Option<Vec<T>> = value.as_array()?.iter().map(|item| read(item).ok()).collect();
        list.filter(|list| !list.is_empty())
    };
    let write = move |list: &Vec<T>| list.iter().map(&write).collect();
    Rule::new(kind, format!("a list; each {}", each.expected), read, write).range(range)
}

/// Two values, called by what they are: `height and width`.
pub fn pair<T: Copy + 'static>(kind: &'static str, names: &str, each: Rule<T>) -> Rule<[T; 2]> {
    let expected = format!("{names}; each {}", each.expected);
    let Rule { allowed, read, write, .. } = list(kind, each);
    let read = move |value: &Value| read(value).ok()?.try_into().ok();
    Rule { allowed, ..Rule::new(kind, expected, read, move |pair: &[T; 2]| write(&pair.to_vec())) }
}

/// A value, or null, which stands for `null`.
pub fn or_null<T: 'static>(rule: Rule<T>, null: &'static str) -> Rule<Option<T>> {
    let (read, write) = (rule.read, rule.write);
    Rule {
        allowed: Allowed { null: Some(null), ..rule.allowed },
        expected: rule.expected,
        read: Box::new(move |value| if value.is_null() { Ok(None) } else { read(value).map(Some) }),
        write: Box::new(move |value| value.as_ref().map_or(Value::Null, &write)),
        omitted: rule.omitted,
    }
}

/// A number of things at a time, or `"auto"` where the device decides.
pub fn batch_size() -> Rule<Option<usize>> {
    let Rule { allowed, expected, read, .. } = or_null(whole(1..=65_536), "");
    Rule {
        allowed: Allowed { kind: "int_or_auto", choices: &["auto"], null: None, ..allowed },
        expected: format!("\"auto\" or {expected}"),
        read: Box::new(move |value| read(if value == "auto" { &Value::Null } else { value })),
        write: Box::new(|size| size.map_or(json!("auto"), Value::from)),
        omitted: None,
    }
}

/// A range in words: `1 to 8` alone, ` from 1 to 8` behind what is counted.
struct RangeWords {
    alone: String,
    joined: String,
}

fn range_words<T>(range: &impl RangeBounds<T>, show: impl Fn(&T) -> String) -> RangeWords {
    let (alone, before) = match (range.start_bound(), range.end_bound()) {
        (Bound::Included(least), Bound::Included(most)) => (format!("{} to {}", show(least), show(most)), " from "),
        (Bound::Included(least), _) => (format!("{} or more", show(least)), ", "),
        (Bound::Excluded(least), _) => (format!("above {}", show(least)), " "),
        (Bound::Unbounded, _) => (String::new(), ""),
    };
    RangeWords { joined: format!("{before}{alone}"), alone }
}

/// `0.000001` as `1e-6`.
fn short(x: f64) -> String {
    if x != 0.0 && !(1e-3..1e6).contains(&x.abs()) { format!("{x:e}") } else { x.to_string() }
}
