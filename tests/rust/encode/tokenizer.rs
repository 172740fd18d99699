use std::fs;
use std::path::Path;

use discffusion::Error;
use discffusion::encode::tokenizer::{Tokenizer, Truncate};
use serde_json::{Map, Value, json};
use tempfile::{TempDir, tempdir};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const MERGES: [&str; 4] = ["a t</w>", "c at</w>", "d o", "do g</w>"];
/// Numbers in the vocabulary: 256 byte symbols, 256 that end a word, the merges, start and end.
const CAT: i64 = 513;
const DOG: i64 = 515;
const BEGIN_ID: i64 = 516;
const END_ID: i64 = 517;

fn symbol(character: char) -> i64 {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    alphabet.binary_search(&character).unwrap() as i64
}

fn last(character: char) -> i64 {
    256 + symbol(character)
}

fn vocabulary() -> Map<String, Value> {
    let mut alphabet: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
    alphabet.sort_unstable();
    let ending: Vec<String> = alphabet.iter().map(|symbol| format!("{symbol}</w>")).collect();
    let merged = MERGES.map(|merge| merge.replace(' ', ""));
    let tokens = alphabet.into_iter().chain(ending).chain(merged).chain([START.into(), END.into()]);
    tokens.zip(0..).map(|(token, number)| (token, Value::from(number))).collect()
}

fn put(dir: &Path, name: &str, value: &Value) {
    fs::write(dir.join(name), value.to_string()).unwrap();
}

fn folder(padding: &str, config: &Value) -> TempDir {
    let dir = tempdir().unwrap();
    put(dir.path(), "vocab.json", &Value::Object(vocabulary()));
    fs::write(dir.path().join("merges.txt"), format!("#version: 0.2\n{}\n", MERGES.join("\n"))).unwrap();
    put(dir.path(), "tokenizer_config.json", config);
    let token = |content: &str| json!({"content": content, "normalized": true});
    let map =
        json!({"bos_token": token(START), "eos_token": token(END), "unk_token": token(END), "pad_token": padding});
    put(dir.path(), "special_tokens_map.json", &map);
    dir
}

fn sd1() -> TempDir {
    folder(END, &json!({"model_max_length": 8, "pad_token": END}))
}

fn sd2() -> TempDir {
    folder("!", &json!({"model_max_length": 8, "pad_token": END}))
}

fn ids(dir: &TempDir, text: &str) -> Vec<i64> {
    Tokenizer::open(dir.path(), 8).unwrap().encode(text, Truncate::Silent).unwrap().ids
}

fn refusal(dir: &Path, m: usize) -> String {
    match Tokenizer::open(dir, m).unwrap_err() {
        Error::Checkpoint(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_text_is_begun_merged_ended_and_padded() {
    let tokens = Tokenizer::open(sd1().path(), 8).unwrap().encode("  A\n\tCAT, dog ", Truncate::Error).unwrap();
    assert_eq!(tokens.ids, [BEGIN_ID, last('a'), CAT, last(','), DOG, END_ID, END_ID, END_ID]);
    assert_eq!(tokens.strings[..6], [START, "a</w>", "cat</w>", ",</w>", "dog</w>", END]);
    assert_eq!(tokens.offsets[1..6], [(2, 3), (5, 8), (8, 9), (10, 13), (0, 0)]);
    assert_eq!((tokens.content, tokens.needed, tokens.truncated), (1..5, 6, false));
}

#[test]
fn offsets_count_characters() {
    let tokens = Tokenizer::open(sd1().path(), 8).unwrap().encode("日 cat", Truncate::Error).unwrap();
    // Three bytes of one character, then the word.
    assert_eq!(tokens.content, 1..5);
    assert_eq!(tokens.offsets[1..5], [(0, 1), (0, 1), (0, 1), (2, 5)]);
}

#[test]
fn padding_is_the_end_token_or_the_one_that_the_map_names() {
    assert_eq!(ids(&sd1(), "cat"), [BEGIN_ID, CAT, END_ID, END_ID, END_ID, END_ID, END_ID, END_ID]);
    assert_eq!(ids(&sd2(), "cat"), [BEGIN_ID, CAT, END_ID, 0, 0, 0, 0, 0]);
}

#[test]
fn special_tokens_are_recognised_within_a_text() {
    assert_eq!(ids(&sd1(), "cat!<|endoftext|>dog")[..6], [BEGIN_ID, CAT, last('!'), END_ID, DOG, END_ID]);
    // A normalised token is looked for in the text in small letters.
    assert_eq!(ids(&sd1(), "<|STARTofTEXT|>")[..3], [BEGIN_ID, BEGIN_ID, END_ID]);
    // In 2.x an exclamation mark is the padding token, wherever it stands.
    assert_eq!(ids(&sd2(), "cat!!")[..5], [BEGIN_ID, CAT, 0, 0, END_ID]);
}

#[test]
fn a_configuration_that_lists_its_tokens_stands_alone() {
    let config = json!({"pad_token": END, "added_tokens_decoder": {"517": {"content": END, "special": true}}});
    assert_eq!(ids(&folder("!", &config), "!")[1..], [last('!'), END_ID, END_ID, END_ID, END_ID, END_ID, END_ID]);
}

#[test]
fn one_file_serves_as_well_as_two() {
    let (two, one) = (sd2(), sd2());
    let model = json!({"type": "BPE", "vocab": vocabulary(), "merges": MERGES});
    put(one.path(), "tokenizer.json", &json!({"model": model, "added_tokens": []}));
    fs::remove_file(one.path().join("vocab.json")).unwrap();
    fs::remove_file(one.path().join("merges.txt")).unwrap();
    let text = "A dog's cat! <|endoftext|>";
    assert_eq!(ids(&one, text), ids(&two, text));
}

#[test]
fn a_long_text_is_cut_or_refused() {
    let tokenizer = Tokenizer::open(sd1().path(), 8).unwrap();
    let full = "cat ".repeat(6);
    assert!(!tokenizer.encode(&full, Truncate::Error).unwrap().truncated);
    let long = "cat ".repeat(7);
    for policy in [Truncate::Warn, Truncate::Silent] {
        let tokens = tokenizer.encode(&long, policy).unwrap();
        assert_eq!(tokens.ids, [BEGIN_ID, CAT, CAT, CAT, CAT, CAT, CAT, END_ID]);
        assert_eq!((tokens.content, tokens.needed, tokens.truncated), (1..7, 9, true));
    }
    match tokenizer.encode(&long, Truncate::Error).unwrap_err() {
        Error::Config(message) => assert!(message.contains("9 tokens") && message.contains("at most 8"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_stated_length_is_kept_within_the_positions() {
    let long = "cat ".repeat(20);
    let tokens = Tokenizer::open(sd2().path(), 10).unwrap().encode(&long, Truncate::Silent).unwrap();
    assert_eq!(tokens.ids[7..], [END_ID, 0, 0]);
    assert!(refusal(sd2().path(), 7).contains("model_max_length=8"));
    let unlimited = folder(END, &json!({"model_max_length": 1e30}));
    assert_eq!(ids(&unlimited, &long)[7], END_ID);
}

#[test]
fn any_text_can_be_tokenized() {
    let tokenizer = Tokenizer::open(sd2().path(), 8).unwrap();
    for text in ["", " ", "\0\u{1}\u{7f}", "\u{feff}", "👩‍👩‍👧‍👦", "e\u{301}\u{301}", "\u{10ffff}\u{e0001}", "İΣς", "</w>"]
    {
        let tokens = tokenizer.encode(text, Truncate::Silent).unwrap();
        assert_eq!((tokens.ids.len(), tokens.strings.len(), tokens.offsets.len()), (8, 8, 8), "{text:?}");
    }
    assert_eq!(tokenizer.encode("", Truncate::Error).unwrap().content, 1..1);
    assert_eq!(tokenizer.encode(&"x".repeat(100_000), Truncate::Silent).unwrap().needed, 100_002);
}

#[test]
fn missing_and_damaged_files_are_named() {
    for name in ["vocab.json", "merges.txt"] {
        let dir = sd1();
        fs::remove_file(dir.path().join(name)).unwrap();
        assert!(refusal(dir.path(), 8).contains(name));
    }
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"] {
        for damage in ["{\"a\": ", "[1, 2 3]", "\u{fffd} \u{fffd} \u{fffd}"] {
            let dir = sd1();
            fs::write(dir.path().join(name), damage).unwrap();
            assert!(refusal(dir.path(), 8).contains(name), "{name} {damage}");
        }
    }
    let dir = sd1();
    let mut vocabulary = vocabulary();
    vocabulary.remove("cat</w>");
    put(dir.path(), "vocab.json", &Value::Object(vocabulary));
    assert!(refusal(dir.path(), 8).contains("vocab.json"));
}

#[test]
fn what_stands_for_the_unknown_has_to_be_in_the_vocabulary() {
    let dir = sd1();
    let mut vocabulary = vocabulary();
    vocabulary.remove(END); // it is added all the same, as a special token, and is found where it is written
    put(dir.path(), "vocab.json", &Value::Object(vocabulary));
    let Err(Error::Checkpoint(why)) = Tokenizer::open(dir.path(), 8) else { panic!("it was opened") };
    assert!(why.contains("vocab.json") && why.contains("unknown, \"<|endoftext|>\""), "{why}");
}
