//! CLIP's tokenizer, as a diffusers folder defines it.
//!
//! A text is normalised to composed form (NFC), white space is collapsed, and letters are lowercased. It is split into
//! words, digits and runs of other signs; each is encoded in bytes, which are merged by the merges of the vocabulary,
//! and the last piece of a word is marked `</w>`. The strings of special tokens are recognised within a text, as by
//! transformers' `CLIPTokenizer`: Stable Diffusion 2.x pads with `!`, so every `!` is that token.

mod files;

use std::mem::take;
use std::ops::Range;
use std::path::Path;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{Lowercase, NFC, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use self::files::Files;
pub use crate::config::Truncate;
use crate::{Error, Result};

/// CLIP's split of a text into words; everything else (white space) is dropped.
const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The tokens of a text for one text encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// The `m` token ids: BOS, content, EOS, padding.
    pub ids: Vec<i64>,
    /// The range of the content tokens among them.
    pub content: Range<usize>,
    /// Number of tokens that the whole text needs, including BOS and EOS.
    pub needed: usize,
    /// Whether the text was truncated. EOS is kept.
    pub truncated: bool,
    /// The `m` tokens as they stand in the vocabulary (byte symbols, `</w>` at the end of a word).
    pub strings: Vec<String>,
    /// The range of characters of the text of each of the `m` tokens, start and end; `(0, 0)` for BOS, EOS and padding.
    pub offsets: Vec<(usize, usize)>,
}

/// The tokenizer of a diffusers folder.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Special,
    eos: Special,
    padding: Special,
    /// The most tokens a text may have, BOS and EOS included; at most `m`.
    limit: usize,
    /// The number of tokens that [`Tokenizer::encode`] returns.
    m: usize,
}

/// A token that is added to a text.
#[derive(Clone, Debug)]
struct Special {
    id: i64,
    string: String,
}

impl Tokenizer {
    /// Reads the tokenizer in `dir` for a text encoder that takes `m` tokens (its `max_position_embeddings`).
    ///
    /// The vocabulary comes from `tokenizer.json` or, failing that, `vocab.json` and `merges.txt`; the special tokens
    /// from `special_tokens_map.json` before `tokenizer_config.json`, unless the latter lists `added_tokens_decoder`.
    /// If `model_max_length` is below `m`, texts are cut there and padded to `m`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming the file if one is missing or damaged, or if `model_max_length` is above `m`.
    pub fn open(dir: &Path, m: usize) -> Result<Self> {
        let mut files = Files::read(dir)?;
        let limit = files.limit(m)?;
        let source = take(&mut files.source);
        if !files.vocab.contains_key(&files.unknown) {
            // An added token is recognised in texts, but cannot be the vocabulary's unknown token.
            return Err(Error::Checkpoint(format!(
                "{source} lacks the token for what is unknown, {:?}; fetch the model again",
                files.unknown
            )));
        }
        let fail = |error: tokenizers::Error| {
            Error::Checkpoint(format!("no tokenizer can be made of {source}: {error}; fetch the model again"))
        };
        let model = BPE::builder()
            .vocab_and_merges(take(&mut files.vocab), take(&mut files.merges))
            .unk_token(files.unknown.clone())
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".into())
            .build()
            .map_err(fail)?;
        let mut inner = tokenizers::Tokenizer::new(model);
        let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ").map_err(fail)?;
        let normalizers = vec![NFC.into(), spaces.into(), Lowercase.into()];
        inner.with_normalizer(Some(Normalizers::new(normalizers))).map_err(fail)?;
        // Inverted: what the pattern does not match is the delimiter, and removed.
        let split =
            Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true).map_err(fail)?;
        let bytes = ByteLevel::new(false, true, true);
        inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![split.into(), bytes.into()])));
        inner.add_tokens(files.added.iter().cloned()).map_err(fail)?;

        let special = |string: &String| match inner.token_to_id(string) {
            Some(id) => Ok(Special { id: i64::from(id), string: string.clone() }),
            None => Err(Error::Checkpoint(format!("{source} lacks the token {string:?}; fetch the model again"))),
        };
        let (bos, eos, padding) = (special(&files.bos)?, special(&files.eos)?, special(&files.padding)?);
        Ok(Self { inner, bos, eos, padding, limit, m })
    }

    /// Refuses a text encoder of `rows` token vectors that lacks one for a token of this vocabulary.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming the token.
    pub fn check_fits(&self, rows: i64) -> Result<()> {
        let vocabulary = self.inner.get_vocab(true);
        match vocabulary.iter().max_by_key(|(_, id)| **id) {
            Some((token, &id)) if i64::from(id) >= rows => Err(Error::Checkpoint(format!(
                "the tokenizer has the token {token:?} with the number {id}, but the text encoder has vectors for 0 to {} \
                 only (vocab_size in text_encoder/config.json); save both of one pipeline, after \
                 text_encoder.resize_token_embeddings where tokens were added",
                rows - 1
            ))),
            _ => Ok(()),
        }
    }

    /// The `m` tokens of `text`.
    ///
    /// # Errors
    /// [`Error::Config`] if the text needs more tokens than the model takes and `policy` is [`Truncate::Error`].
    pub fn encode(&self, text: &str, policy: Truncate) -> Result<Encoding> {
        let encoding = self.inner.encode_char_offsets(text, false).map_err(|error| {
            Error::Internal(anyhow::anyhow!("the text {:?} cannot be tokenized: {error}", shorten(text)))
        })?;
        let needed = encoding.len() + 2;
        let truncated = needed > self.limit;
        if truncated && policy == Truncate::Error {
            return Err(Error::Config(format!(
                "the text {:?} needs {needed} tokens, BOS and EOS included, expected at most {}; shorten it or \
                 choose truncate=\"warn\" or \"silent\"",
                shorten(text),
                self.limit
            )));
        }

        let content = 1..needed.min(self.limit) - 1;
        let mut ids = vec![self.padding.id; self.m];
        let mut strings = vec![self.padding.string.clone(); self.m];
        let mut offsets = vec![(0, 0); self.m];
        for (at, special) in [(0, &self.bos), (content.end, &self.eos)] {
            ids[at] = special.id;
            strings[at].clone_from(&special.string);
        }
        for (at, index) in content.clone().zip(0..) {
            ids[at] = i64::from(encoding.get_ids()[index]);
            strings[at].clone_from(&encoding.get_tokens()[index]);
            offsets[at] = encoding.get_offsets()[index];
        }
        Ok(Encoding { ids, content, needed, truncated, strings, offsets })
    }
}

/// The beginning of a text, for messages.
fn shorten(text: &str) -> String {
    const LENGTH: usize = 60;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
