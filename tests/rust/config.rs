//! Options: names, ranges, defaults, errors that name the field.

use discffusion::config::{
    Attribution, DenoisingTarget, GenerateConfig, Heads, Layers, MapKind, Method, OptionSpec, Pooling, Prior,
    ScoreConfig, Times, TokenSet, TrainConfig,
};
use serde_json::json;

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

/// Digests of saved results depend on it.
#[test]
fn json_stays_to_the_byte() {
    let presets = [
        (
            "default",
            concat!(
                r#"{"attribution":"local","attribution_steps":8,"batch_size":"auto","denoising_error":"norm""#,
                r#","denoising_weight":1.0,"heads":"mean","lambda_":10.0,"layers":"last(1)","map":"cosine""#,
                r#","method":"denoising","noise_levels":null,"noise_range":[0.3,0.8],"pooling":"lse""#,
                r#","resize":"squash","resolution":null,"seed":0,"steps":10,"timesteps":null,"tokens":"all""#,
                r#","truncate":"warn","unconditional":true,"via":null}"#
            ),
        ),
        (
            "attention",
            concat!(
                r#"{"attribution":"local","attribution_steps":8,"batch_size":"auto","denoising_error":"norm""#,
                r#","denoising_weight":1.0,"heads":"mean","lambda_":10.0,"layers":"last(1)","map":"cosine""#,
                r#","method":"attention","noise_levels":null,"noise_range":[0.29,0.65],"pooling":"lse""#,
                r#","resize":"squash","resolution":null,"seed":0,"steps":10,"timesteps":null,"tokens":"all""#,
                r#","truncate":"warn","unconditional":true,"via":null}"#
            ),
        ),
        (
            "denoising",
            concat!(
                r#"{"attribution":"local","attribution_steps":8,"batch_size":"auto","denoising_error":"norm""#,
                r#","denoising_weight":1.0,"heads":"mean","lambda_":10.0,"layers":"last(1)","map":"cosine""#,
                r#","method":"denoising","noise_levels":null,"noise_range":[0.3,0.8],"pooling":"lse""#,
                r#","resize":"squash","resolution":null,"seed":0,"steps":10,"timesteps":null,"tokens":"all""#,
                r#","truncate":"warn","unconditional":true,"via":null}"#
            ),
        ),
        (
            "paper",
            concat!(
                r#"{"attribution":"local","attribution_steps":8,"batch_size":"auto","denoising_error":"norm""#,
                r#","denoising_weight":1.0,"heads":"attributed","lambda_":1.0,"layers":"all","map":"probs""#,
                r#","method":"attention","noise_levels":null,"noise_range":null,"pooling":"lse","resize":"squash""#,
                r#","resolution":null,"seed":0,"steps":50,"timesteps":null,"tokens":"all","truncate":"warn""#,
                r#","unconditional":true,"via":null}"#
            ),
        ),
        (
            "release",
            concat!(
                r#"{"attribution":"local","attribution_steps":8,"batch_size":"auto","denoising_error":"norm""#,
                r#","denoising_weight":1.0,"heads":"mean","lambda_":1.0,"layers":"last_blocks","map":"logits""#,
                r#","method":"combined","noise_levels":null,"noise_range":null,"pooling":"lse","resize":"squash""#,
                r#","resolution":null,"seed":0,"steps":50,"timesteps":null,"tokens":"all","truncate":"warn""#,
                r#","unconditional":true,"via":null}"#
            ),
        ),
    ];
    assert_eq!(presets.map(|(name, _)| name), ScoreConfig::PRESETS);
    for (name, json) in presets {
        assert_eq!(ScoreConfig::preset(name).unwrap().to_json(), json, "{name}");
    }
    let named = r#"{"timesteps":[10,20.5],"layers":["mid.0"],"heads":[1,0],"lambda_":1e-6,"batch_size":8}"#;
    let json = ScoreConfig::from_json(named).unwrap().to_json();
    for part in [
        r#""timesteps":[10,20.5]"#,
        r#""layers":["mid.0"]"#,
        r#""heads":[1,0]"#,
        r#""lambda_":1e-6"#,
        r#""batch_size":8"#,
        r#""noise_range":null"#,
    ] {
        assert!(json.contains(part), "{json}");
    }
    assert_eq!(
        TrainConfig::default().to_json(),
        concat!(
            r#"{"accumulate":1,"gradient_clip":null,"in_batch":false,"layers":"all","learning_rate":0.001"#,
            r#","loss":"triplet","margin":0.2,"negative_kinds":"both","negatives":"hardest","projections":"kv""#,
            r#","rank":null,"recompute":false,"schedule":"constant","seed":0,"temperature":null"#,
            r#","timesteps":"auto","timesteps_per_step":1,"warmup_steps":0,"weight_decay":0.01}"#
        )
    );
    assert_eq!(
        GenerateConfig::default().to_json(),
        concat!(
            r#"{"batch_size":"auto","eta":0.0,"guidance_rescale":0.0,"guidance_scale":null,"height":null"#,
            r#","num_images":1,"steps":null,"truncate":"warn","width":null}"#
        )
    );
}

/// But for those that came later and have their defaults, of which configurations that were saved before know nothing.
#[test]
fn every_option_is_written() {
    let added = ["denoising_target", "prior", "prior_weight", "crops_coords_top_left", "original_size", "target_size"];
    let json = r#"{"crops_coords_top_left": [0, 8], "original_size": [512, 640], "target_size": [64, 64]}"#;
    let full = ScoreConfig {
        denoising_target: DenoisingTarget::Noise,
        prior: Some(Prior::Null),
        prior_weight: 0.25,
        ..ScoreConfig::from_json(json).unwrap()
    };
    assert_eq!((full.original_size, full.crops_coords_top_left), (Some([512, 640]), Some([0, 8])));
    let fields = full.to_fields();
    assert!(ScoreConfig::options().iter().all(|option| fields.contains_key(option.name)));
    assert_eq!(fields.len(), ScoreConfig::options().len());
    let defaults = ScoreConfig::default().to_fields();
    assert!(fields.keys().all(|name| defaults.contains_key(name) != added.contains(&name.as_str())));
    assert_eq!(ScoreConfig::from_fields(&fields).unwrap(), full);
    let image = GenerateConfig::from_json(json).unwrap();
    assert_eq!((image.target_size, GenerateConfig::from_fields(&image.to_fields()).unwrap()), (Some([64, 64]), image));
}

/// The row of a table says all that the declaration does.
#[test]
fn one_declaration_gives_the_row() {
    let row = |options: &[OptionSpec], name: &str| {
        serde_json::to_value(options.iter().find(|option| option.name == name).unwrap()).unwrap()
    };
    assert_eq!(
        row(ScoreConfig::options(), "lambda_"),
        json!({"name": "lambda_", "kind": "float", "choices": [], "range": "1e-6 to 1e6", "null": null, "default": 10.0,
            "help": "Sharpness of LogSumExp pooling; 1e-6 to 1e6."})
    );
    assert_eq!(
        row(TrainConfig::options(), "rank"),
        json!({"name": "rank", "kind": "int", "choices": [], "range": "1 to 4096", "default": null,
            "null": "dense, of the shape of the weight",
            "help": "Rank of the deltas; 1 to 4096; default: dense, of the shape of the weight."})
    );
    assert_eq!(row(TrainConfig::options(), "negatives")["choices"], json!(["hardest", "mean"]));
    for option in [ScoreConfig::options(), TrainConfig::options(), GenerateConfig::options()].concat() {
        assert!(option.help.ends_with('.') && !option.help.contains("site"), "{option:?}");
        assert_eq!(
            option.allowed.kind == "choice",
            option.allowed.kind != "int_or_auto" && {
                !option.allowed.choices.is_empty() && !option.allowed.kind.starts_with("choice_or_")
            }
        );
    }
}

#[test]
fn errors_say_what_was_given_and_what_was_expected() {
    let cases = [
        (r#"{"stesp": 3}"#, "unknown option 'stesp' (did you mean 'steps'?); there are method, "),
        (r#"{"zzz": 3}"#, "unknown option 'zzz'; there are method, "),
        (r#"{"map": "x"}"#, "map is \"x\"; expected one of probs, logits, cosine"),
        (r#"{"lambda_": 0}"#, "lambda_ is 0; expected a number from 1e-6 to 1e6"),
        (r#"{"denoising_weight": -1}"#, "denoising_weight is -1; expected a finite number, 0 or more"),
        (r#"{"attribution_steps": 0}"#, "attribution_steps is 0; expected a whole number from 1 to 1000"),
        (r#"{"seed": 9223372036854775808}"#, "seed is 9223372036854775808; expected a whole number, 0 or more"),
        (r#"{"via": 0}"#, "via is 0; expected a number of pixels from 1 to 16384"),
        (r#"{"batch_size": 0}"#, "batch_size is 0; expected \"auto\" or a whole number from 1 to 65536"),
        (r#"{"noise_levels": [2]}"#, "noise_levels is [2]; expected a list; each a number from 0 to 1"),
        (
            r#"{"original_size": [512]}"#,
            "original_size is [512]; expected height and width; each a number of pixels from 1 to 16384",
        ),
    ];
    for (json, message) in cases {
        let error = ScoreConfig::from_json(json).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
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
