//! One of a tokenizer's files, with or without the others; then a text.
#![no_main]

use discffusion::encode::tokenizer::{Tokenizer, Truncate};
use discffusion_fuzz::{checked, in_folder};
use libfuzzer_sys::fuzz_target;

const TEXT: &str = "a red Circle, left of  2 squares; e\u{301} \u{1f600} <|endoftext|>";
const FILES: [(&str, &[u8]); 5] = [
    ("vocab.json", include_bytes!("../tiny/tokenizer/vocab.json")),
    ("merges.txt", include_bytes!("../tiny/tokenizer/merges.txt")),
    ("tokenizer_config.json", include_bytes!("../tiny/tokenizer/tokenizer_config.json")),
    ("special_tokens_map.json", include_bytes!("../tiny/tokenizer/special_tokens_map.json")),
    ("tokenizer.json", b"null"),
];

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    let mut files = FILES.to_vec();
    files[usize::from(*which) % FILES.len()].1 = data;
    if files[4].1 == b"null" {
        files.pop();
    }
    in_folder(&files, |folder| {
        checked(|| {
            let tokenizer = Tokenizer::open(folder, 77)?;
            for policy in [Truncate::Silent, Truncate::Error] {
                let _ = tokenizer.encode(TEXT, policy)?;
            }
            Ok(())
        });
        let _ = std::fs::remove_file(folder.join("tokenizer.json"));
    });
});
