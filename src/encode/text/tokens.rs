use std::ops::Range;

use tch::Tensor;

use crate::encode::tokenizer::Encoding;

/// The tokens of a text for each text encoder of a model, and their columns in the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The encoding for each text encoder.
    pub encodings: Vec<Encoding>,
    /// The parts of the context, in the order of its columns.
    pub segments: Vec<Segment>,
}

/// Consecutive columns of a context: BOS, the text's own tokens, EOS and padding of one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The kind of text encoder: `clip`, `t5`.
    pub encoder: &'static str,
    /// The first column.
    pub start: usize,
    /// Number of columns.
    pub columns: usize,
    /// Index of the encoding whose tokens the columns stand for; `None` if the model lacks the encoder, so that they stand
    /// for nothing.
    pub encoding: Option<usize>,
}

impl Tokens {
    /// The tokens for encoders of one kind whose vectors are concatenated in the same columns. If the tokenizers find
    /// different numbers of tokens, the columns are labelled by the longest encoding.
    ///
    /// # Panics
    /// If there are no encodings.
    pub fn side_by_side(encoder: &'static str, encodings: Vec<Encoding>) -> Self {
        let longest = |i: &usize| (encodings[*i].content.len(), std::cmp::Reverse(*i));
        let encoding = (0..encodings.len()).max_by_key(longest).expect("a model has a text encoder");
        let columns = encodings[encoding].ids.len();
        Tokens { segments: vec![Segment { encoder, start: 0, columns, encoding: Some(encoding) }], encodings }
    }

    /// The same tokens, followed by so many columns of another encoder, or of none if the model lacks it.
    pub fn followed_by(mut self, encoder: &'static str, columns: usize, encoding: Option<Encoding>) -> Self {
        let start = self.segments.iter().map(|segment| segment.columns).sum();
        let index = encoding.is_some().then_some(self.encodings.len());
        self.segments.push(Segment { encoder, start, columns, encoding: index });
        self.encodings.extend(encoding);
        self
    }

    /// Number of tokens that the whole text needs in the longest encoding, including BOS and EOS.
    pub fn needed(&self) -> usize {
        self.encodings.iter().map(|encoding| encoding.needed).max().unwrap_or(0)
    }

    /// Whether the text was truncated for some encoder.
    pub fn truncated(&self) -> bool {
        self.encodings.iter().any(|encoding| encoding.truncated)
    }

    /// Whether the text has no content tokens.
    pub fn is_empty(&self) -> bool {
        self.encodings.iter().all(|encoding| encoding.content.is_empty())
    }

    /// Each segment with its encoding, if it has one.
    pub fn by_segment(&self) -> impl Iterator<Item = (Segment, Option<&Encoding>)> {
        self.segments.iter().map(|segment| (*segment, segment.encoding.map(|index| &self.encodings[index])))
    }

    /// The columns of the content tokens.
    pub fn own_columns(&self) -> Columns {
        let own = self.by_segment().filter_map(|(Segment { start, .. }, encoding)| {
            let Range { start: from, end: to } = encoding?.content;
            Some(start + from..start + to)
        });
        Columns::new(own.collect())
    }
}

/// Some columns of a context, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(Vec<Range<usize>>);

impl Columns {
    /// The columns of some ranges, which must be in order and disjoint; empty ones are ignored.
    pub fn new(ranges: Vec<Range<usize>>) -> Self {
        Columns(ranges.into_iter().filter(|range| !range.is_empty()).collect())
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.0.iter().map(ExactSizeIterator::len).sum()
    }

    /// Whether there are no columns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All columns as one range, if they are contiguous.
    pub fn as_range(&self) -> Option<Range<usize>> {
        match &self.0[..] {
            [] => Some(0..0),
            [range] => Some(range.clone()),
            _ => None,
        }
    }

    /// These columns of maps `[…, m]`: `[…, len]`.
    pub fn of(&self, map: &Tensor) -> Tensor {
        let parts: Vec<Tensor> =
            self.0.iter().map(|range| map.narrow(-1, range.start as i64, range.len() as i64)).collect();
        match &parts[..] {
            [] => map.narrow(-1, 0, 0),
            [part] => part.shallow_clone(),
            _ => Tensor::cat(&parts, -1),
        }
    }

    /// Maps `[…, m]` with the values `[…, len]` in these columns and zeros in the others.
    pub fn among_zeros(&self, values: &Tensor, m: usize) -> Tensor {
        let mut size = values.size();
        *size.last_mut().expect("there are columns") = m as i64;
        let all = Tensor::zeros(size.as_slice(), (values.kind(), values.device()));
        let mut taken = 0;
        for range in &self.0 {
            let len = range.len() as i64;
            all.narrow(-1, range.start as i64, len).copy_(&values.narrow(-1, taken, len));
            taken += len;
        }
        all
    }
}
