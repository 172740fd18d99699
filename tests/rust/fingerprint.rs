//! By what deltas recognise their model.

use std::collections::BTreeMap;

use discffusion::checkpoint::Sampled;
use discffusion::deltas::{Base, Fingerprint};

/// A model of one part with weights of a type, and a checksum that no other has.
fn model(types: &str, numbers: &[f32]) -> Fingerprint {
    let part = Sampled { checksum: format!("{types} {numbers:?}"), types: types.into(), numbers: numbers.to_vec() };
    let base = Base { settings: BTreeMap::new(), parts: BTreeMap::from([("unet".to_owned(), part)]) };
    Fingerprint { architecture: "one layer".into(), sample: vec![], base: Some(base) }
}

/// 1/3 and 7e-8, and torch's roundings of them to float16 and bfloat16.
const SINGLE: [f32; 2] = [0.333_333_34, 7e-8];
const HALF: [f32; 2] = [0.333_251_95, 5.960_464_5e-8];
const BRAIN: [f32; 2] = [0.333_984_38, 6.984_919e-8];

#[test]
fn files_call_a_checksum_digest() {
    let base = serde_json::to_value(model("F32", &SINGLE)).unwrap()["base"].clone();
    let part = &base["parts"]["unet"];
    assert!(part["digest"].is_string() && part.get("checksum").is_none(), "{part}");
}

#[test]
fn models_are_the_same_up_to_rounding_where_their_types_differ() {
    let same = |a: (&str, [f32; 2]), b: (&str, [f32; 2])| model(a.0, &a.1).difference(&model(b.0, &b.1)).is_none();
    for (a, b) in
        [(("F32", SINGLE), ("F16", HALF)), (("F32", SINGLE), ("BF16", BRAIN)), (("F16", HALF), ("BF16", BRAIN))]
    {
        assert!(same(a, b) && same(b, a), "{a:?} {b:?}");
    }
    // The neighbours in float16 and bfloat16.
    assert!(!same(("F32", SINGLE), ("F16", [0.333_007_8, HALF[1]])));
    assert!(!same(("F32", SINGLE), ("BF16", [0.332_031_25, BRAIN[1]])));
    assert!(!same(("F32", SINGLE), ("F16", [HALF[0], 1.192_092_9e-7])));
}

#[test]
fn models_of_the_same_types_are_the_same_by_their_checksums_alone() {
    let one = model("F32", &SINGLE);
    assert_eq!(one.difference(&one), None);
    assert_eq!(one.difference(&model("F32", &[0.333_333_37, 7e-8])), Some("unet".into()));
}

#[test]
fn files_of_the_first_release_know_a_part_of_the_unet() {
    let first = |sample: &[f32]| Fingerprint { architecture: "one layer".into(), sample: sample.to_vec(), base: None };
    let now = Fingerprint { sample: SINGLE.to_vec(), ..model("F32", &SINGLE) };
    for computed_in in [SINGLE, HALF, BRAIN] {
        assert_eq!(first(&computed_in).difference(&now), None);
    }
    assert_eq!(first(&[0.336, 7e-8]).difference(&now), Some("unet".into()), "0.8 % are another model");
    let text = r#"{"architecture": "one layer", "sample": [0.5]}"#;
    assert_eq!(serde_json::from_str::<Fingerprint>(text).unwrap(), first(&[0.5]));
}
