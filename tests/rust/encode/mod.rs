//! Images to pixels of the right size, texts to tokens. Agreement with Pillow and transformers: `tests/parity`.

mod image;
mod tokenizer;
