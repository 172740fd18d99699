//! Options: names, ranges, defaults, errors that name the field.

use discffusion::config::{
    Attribution, Heads, Layers, MapKind, Method, Pooling, ScoreConfig, Times, TokenSet, options,
};

#[test]
fn defaults_survive_the_way_through_json() {
    for preset in ScoreConfig::PRESETS {
        let config = ScoreConfig::preset(preset).unwrap();
        assert_eq!(ScoreConfig::from_json(&config.to_json()).unwrap(), config, "{preset}");
    }
    assert_eq!(ScoreConfig::from_json("{}").unwrap(), ScoreConfig::default());
}

#[test]
fn the_paper_is_the_paper() {
    let paper = ScoreConfig::preset("paper").unwrap();
    assert_eq!((paper.map, paper.pooling, paper.lambda), (MapKind::Probs, Pooling::Lse, 1.0));
    assert_eq!((paper.layers, paper.tokens, paper.times), (Layers::All, TokenSet::All, Times::Steps(50)));
    assert_eq!((paper.heads, paper.attribution), (Heads::Attributed, Attribution::Local));
    let release = ScoreConfig::preset("release").unwrap();
    assert_eq!((release.method, release.denoising_weight), (Method::Combined, 1.0));
    assert_eq!((release.map, release.pooling, release.lambda), (MapKind::Logits, Pooling::Lse, 1.0));
    assert_eq!((release.layers, release.heads), (Layers::LastBlocks, Heads::Mean));
}

#[test]
fn every_option_is_written_in_order() {
    let json = ScoreConfig::default().to_json();
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
    let mut names: Vec<&str> = options().iter().map(|option| option.name).collect();
    names.sort_unstable();
    assert_eq!(fields.keys().map(String::as_str).collect::<Vec<_>>(), names);
}

#[test]
fn lists_and_counts() {
    let of = |json: &str| ScoreConfig::from_json(json).unwrap();
    assert_eq!(of(r#"{"layers": "last(3)"}"#).layers, Layers::Last(3));
    assert_eq!(of(r#"{"layers": ["mid.0"]}"#).layers, Layers::Named(vec!["mid.0".into()]));
    assert_eq!(of(r#"{"timesteps": [1, 999]}"#).times, Times::Timesteps(vec![1.0, 999.0]));
    assert_eq!(of(r#"{"noise_levels": [0.2, 0.8], "steps": null}"#).times, Times::NoiseLevels(vec![0.2, 0.8]));
}

#[test]
fn steps_keep_the_range_unless_it_is_given_up() {
    let of = |json: &str| ScoreConfig::from_json(json).unwrap().times;
    let Times::Range { low, high, .. } = ScoreConfig::default().times else { panic!("the default is a range") };
    assert_eq!(of(r#"{"steps": 4}"#), Times::Range { low, high, steps: 4 });
    assert_eq!(of(r#"{"steps": 4, "noise_range": [0.1, 0.9]}"#), Times::Range { low: 0.1, high: 0.9, steps: 4 });
    assert_eq!(of(r#"{"noise_range": [0.1, 0.9]}"#), Times::Range { low: 0.1, high: 0.9, steps: 10 });
    assert_eq!(of(r#"{"steps": 4, "noise_range": null}"#), Times::Steps(4));
    assert_eq!(of(r#"{"noise_range": null}"#), Times::Steps(10));
    assert_eq!(of(r#"{"noise_levels": [0.5], "noise_range": null}"#), Times::NoiseLevels(vec![0.5]));
    // Written in full before there were ranges: the whole schedule, as it was then.
    assert_eq!(of(r#"{"steps": 4, "timesteps": null, "noise_levels": null}"#), Times::Steps(4));
}

#[test]
fn errors_name_the_field_and_the_value() {
    let cases = [
        (r#"{"mapp": 1}"#, "mapp"),
        (r#"{"map": "probabilities"}"#, "probabilities"),
        (r#"{"map": 3}"#, "map is 3"),
        (r#"{"lambda_": 0}"#, "lambda_ is 0"),
        (r#"{"lambda_": -1.5}"#, "lambda_ is -1.5"),
        (r#"{"denoising_weight": -1}"#, "denoising_weight"),
        (r#"{"denoising_error": "l1"}"#, "denoising_error"),
        (r#"{"unconditional": 1}"#, "unconditional"),
        (r#"{"layers": "last(0)"}"#, "last(0)"),
        (r#"{"layers": []}"#, "layers"),
        (r#"{"layers": ["mid.0", "mid.0"]}"#, "mid.0"),
        (r#"{"heads": []}"#, "heads"),
        (r#"{"heads": [1, 1]}"#, "heads lists 1 twice"),
        (r#"{"attribution_steps": 0}"#, "attribution_steps is 0"),
        (r#"{"steps": 0}"#, "steps is 0"),
        (r#"{"steps": 2.5}"#, "steps is 2.5"),
        (r#"{"steps": 4, "timesteps": [1]}"#, "exclude"),
        (r#"{"noise_range": [0.6, 0.3]}"#, "noise_range is [0.6,0.3]"),
        (r#"{"noise_range": [0.3, 1.3]}"#, "noise_range"),
        (r#"{"noise_range": [0.3]}"#, "noise_range"),
        (r#"{"noise_range": 0.3}"#, "noise_range is 0.3"),
        (r#"{"noise_levels": [0.3], "noise_range": [0.3, 0.6]}"#, "noise_range"),
        (r#"{"timesteps": []}"#, "timesteps"),
        (r#"{"timesteps": [-1]}"#, "timesteps"),
        (r#"{"noise_levels": [1.2]}"#, "noise_levels"),
        (r#"{"resolution": 0}"#, "resolution is 0"),
        (r#"{"via": 100000}"#, "via is 100000"),
        (r#"{"batch_size": 0}"#, "batch_size is 0"),
        (r#"{"batch_size": "big"}"#, "big"),
        (r#"{"seed": -1}"#, "seed is -1"),
        (r#"{"truncate": "cut"}"#, "cut"),
        ("[1]", "JSON object"),
        ("{", "JSON object"),
    ];
    for (json, names) in cases {
        let error = ScoreConfig::from_json(json).expect_err(json);
        assert_eq!(error.kind(), "ConfigError", "{json}");
        assert!(error.to_string().contains(names), "{json}: {error}");
    }
}
