//! The files of a tokenizer folder, read the way transformers reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{Merges, Vocab};

use crate::{Error, Result};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// The names under which special tokens are stored, in the order in which they are added.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The contents of a tokenizer folder.
pub(super) struct Files {
    /// The file of the vocabulary, for messages.
    pub source: String,
    pub vocab: Vocab,
    pub merges: Merges,
    /// Tokens that are recognised within a text, in the order in which they are to be added.
    pub added: Vec<AddedToken>,
    pub bos: String,
    pub eos: String,
    pub unknown: String,
    pub padding: String,
    config: PathBuf,
    /// `model_max_length`, if stated.
    length: Option<f64>,
}

impl Files {
    pub fn read(dir: &Path) -> Result<Self> {
        let [config_path, map_path, json_path, vocab_path, merges_path] =
            ["tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "vocab.json", "merges.txt"]
                .map(|name| dir.join(name));
        let config = read_json(&config_path)?.unwrap_or_default();
        let map = read_json(&map_path)?.unwrap_or_default();
        let whole = read_json(&json_path)?;

        // A configuration that lists all added tokens stands alone; an older one is completed by the other files, and
        // the map has the last word (Stable Diffusion 2.1 states its padding token only there).
        let mut listed = BTreeMap::new();
        let mut named = config.clone();
        if let Some(Value::Object(tokens)) = config.get("added_tokens_decoder") {
            for (number, token) in tokens {
                let index: u64 = number.parse().map_err(|_| {
                    wrong(&config_path, &format!("added_tokens_decoder has the key {number:?}, expected a number"))
                })?;
                listed.insert(index, token.clone());
            }
        } else {
            named = overlay(named, &map);
            for token in array(whole.as_ref(), "added_tokens") {
                let index = token.get("id").and_then(Value::as_u64);
                let index = index.ok_or_else(|| wrong(&json_path, "added_tokens has an entry without an id"))?;
                listed.insert(index, token.clone());
            }
        }

        let (source, vocab, merges) = match whole {
            Some(whole) => {
                let model = &whole["model"];
                let merges = array(Some(model), "merges").iter().map(pair).collect::<Option<Merges>>();
                let merges = merges.ok_or_else(|| wrong(&json_path, "a merge is not a pair of tokens"))?;
                let vocab = vocab(&json_path, &model["vocab"])?;
                (json_path.display().to_string(), vocab, merges)
            }
            None => {
                let file = read_json(&vocab_path)?.ok_or_else(|| missing(&vocab_path))?;
                let vocab = vocab(&vocab_path, &file)?;
                (format!("{} with merges.txt", vocab_path.display()), vocab, read_merges(&merges_path)?)
            }
        };
        let name = |key: &str, default: &str| named.get(key).and_then(content).unwrap_or(default).to_owned();
        Ok(Self {
            source,
            vocab,
            merges,
            added: added(&listed, &named),
            bos: name("bos_token", START),
            eos: name("eos_token", END),
            unknown: name("unk_token", END),
            padding: name("pad_token", END),
            length: config.get("model_max_length").and_then(Value::as_f64),
            config: config_path,
        })
    }

    /// The most tokens that a text may have for an encoder that takes `m`.
    pub fn limit(&self, m: usize) -> Result<usize> {
        // Tokenizers without a limit of their own state an enormous number.
        const UNLIMITED: f64 = 1e15;
        let limit = match self.length {
            None => m,
            Some(length) if length >= UNLIMITED => m,
            Some(length) => length as usize,
        };
        if limit < 2 || limit > m {
            return Err(wrong(
                &self.config,
                &format!("model_max_length={limit}, expected 2 to {m}, the positions of the text encoder"),
            ));
        }
        Ok(limit)
    }
}

/// The tokens to add: those listed, by number, then the named ones that are not among them.
fn added(listed: &BTreeMap<u64, Value>, named: &Value) -> Vec<AddedToken> {
    let all: Vec<&str> = NAMES.iter().filter_map(|name| content(&named[*name])).collect();
    let mut tokens: Vec<(bool, AddedToken)> = listed.values().filter_map(|value| token(value, false)).collect();
    let numbered: Vec<String> = tokens.iter().map(|(_, token)| token.content.clone()).collect();
    // The defaults of CLIP's tokenizer, where the files are silent.
    for (name, default) in NAMES.iter().zip([START, END, END, "", END, "", ""]) {
        let default = Value::from(default);
        let value = match &named[*name] {
            Value::Null => &default,
            value => value,
        };
        let Some(token) = token(value, true) else { continue };
        if !numbered.contains(&token.1.content) && !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    let special = |token: AddedToken| {
        let special = token.special || all.contains(&token.content.as_str());
        token.special(special)
    };
    tokens.into_iter().map(|(_, token)| special(token)).collect()
}

/// Reads a token given as a string (true) or as an object with its content and how to look for it (false).
fn token(value: &Value, special: bool) -> Option<(bool, AddedToken)> {
    let content = content(value).filter(|content| !content.is_empty())?;
    let flag = |key: &str, default: bool| value.get(key).and_then(Value::as_bool).unwrap_or(default);
    let special = flag("special", special);
    let token = AddedToken::from(content, special);
    let normalized = flag("normalized", token.normalized);
    let token = token
        .normalized(normalized)
        .single_word(flag("single_word", false))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false));
    Some((value.is_string(), token))
}

fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// `below` with the entries of `above` put over it.
fn overlay(mut below: Value, above: &Value) -> Value {
    if let (Value::Object(below), Value::Object(above)) = (&mut below, above) {
        below.extend(above.clone());
        return Value::Object(std::mem::take(below));
    }
    if below.is_object() { below } else { above.clone() }
}

fn array<'a>(value: Option<&'a Value>, key: &str) -> &'a [Value] {
    value.and_then(|value| value.get(key)?.as_array()).map_or(&[], Vec::as_slice)
}

fn pair(merge: &Value) -> Option<(String, String)> {
    match merge {
        Value::String(merge) => split(merge),
        Value::Array(merge) => match merge.as_slice() {
            [Value::String(left), Value::String(right)] => Some((left.clone(), right.clone())),
            _ => None,
        },
        _ => None,
    }
}

fn split(merge: &str) -> Option<(String, String)> {
    let (left, right) = merge.split_once(' ')?;
    (!right.contains(' ')).then(|| (left.into(), right.into()))
}

fn vocab(path: &Path, value: &Value) -> Result<Vocab> {
    let entries = value.as_object().filter(|entries| !entries.is_empty());
    let entries = entries.ok_or_else(|| wrong(path, "there is no vocabulary of tokens and their numbers"))?;
    entries
        .iter()
        .map(|(token, number)| match number.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok((token.clone(), number)),
            None => Err(wrong(path, &format!("the token {token:?} has the number {number}"))),
        })
        .collect()
}

fn read_merges(path: &Path) -> Result<Merges> {
    let text = read(path)?.ok_or_else(|| missing(path))?;
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("#version"))
        .map(|(at, line)| {
            split(line).ok_or_else(|| wrong(path, &format!("line {} is {line:?}, expected two tokens", at + 1)))
        })
        .collect()
}

fn read_json(path: &Path) -> Result<Option<Value>> {
    let Some(text) = read(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| wrong(path, &error.to_string()))
}

/// The text of a file, or nothing if there is no such file.
fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(path, &error.to_string())),
    }
}

fn missing(path: &Path) -> Error {
    Error::Checkpoint(format!("{} is missing; fetch the model again", path.display()))
}

fn wrong(path: &Path, what: &str) -> Error {
    Error::Checkpoint(format!("{}: {what}; fetch the model again", path.display()))
}
