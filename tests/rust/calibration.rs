//! Scores by the weights of a calibration, on tiny random checkpoints of every family.

use std::collections::BTreeMap;

use approx::assert_relative_eq;
use discffusion::config::{Layers, MapKind, Method, Prior, ScoreConfig, Times, TokenSet};
use discffusion::encode::image::{Image, Rgb};
use discffusion::model::Model;
use discffusion::score::{Calibration, Maps, Request};
use tch::{Kind, Tensor};

use crate::tiny::{FAMILIES, model};

const TEXTS: [&str; 2] = ["ab c", "x"];
const PAIRS: [(usize, usize); 3] = [(0, 1), (1, 0), (0, 0)];
const STEPS: usize = 3;

fn images() -> Vec<Image> {
    let image = |salt: usize| {
        let data = (0..16 * 16 * 3).map(|i| ((i * (7 + salt) / 11 + i / 48) % 256) as u8).collect();
        Rgb { width: 16, height: 16, data }.into()
    };
    vec![image(0), image(5)]
}

fn config(model: &Model, map: MapKind, tokens: TokenSet) -> ScoreConfig {
    let names = [0, 2].map(|place| model.layers()[place].name.clone());
    ScoreConfig {
        method: Method::Calibrated,
        map,
        tokens,
        lambda: 3.0,
        layers: Layers::Named(names.to_vec()),
        times: Times::NoiseLevels(vec![0.7, 0.4, 0.2]),
        ..ScoreConfig::default()
    }
}

/// Numbers of either sign, none alike.
fn weight(salt: usize) -> f64 {
    (salt as f64 * 1.7).sin() * 3.0
}

fn calibration(model: &Model, config: &ScoreConfig, attention: bool, denoising: bool) -> Calibration {
    let of_layer = |place: usize| {
        let layer = &model.layers()[place];
        let row = |step: usize| (0..layer.heads as usize).map(|head| weight(place * 31 + step * 7 + head)).collect();
        (layer.name.clone(), (0..STEPS).map(row).collect())
    };
    Calibration {
        config: config.clone(),
        layers: if attention { [0, 2].map(of_layer).into() } else { BTreeMap::new() },
        denoising: denoising.then(|| vec![2.0, 0.0, -0.5]),
    }
}

fn request<'a>(images: &'a [Image], pairs: &'a [(usize, usize)]) -> Request<'a> {
    Request { images, texts: &TEXTS, pairs, noise: None }
}

#[test]
fn a_calibrated_score_is_the_weighted_sum_of_what_is_observed() {
    let _no_grad = tch::no_grad_guard();
    for family in FAMILIES {
        let (model, _dir) = model(family);
        for (map, tokens) in
            [(MapKind::Cosine, TokenSet::All), (MapKind::Logits, TokenSet::Content), (MapKind::Probs, TokenSet::All)]
        {
            let config = config(&model, map, tokens);
            let images = images();
            let observed = model.head_scores(&request(&images, &PAIRS), &config, |_| Ok(())).unwrap();
            let terms = observed.denoising.unwrap();
            for (attention, denoising) in [(true, true), (true, false), (false, true)] {
                let calibration = calibration(&model, &config, attention, denoising);
                let scorer = model.with_calibration(Some(calibration.clone())).unwrap();
                let found = scorer.score(&request(&images, &PAIRS), &config).unwrap();
                for (pair, found) in found.into_iter().enumerate() {
                    let mut expected = 0.0;
                    for (name, numbers) in observed.layers.iter().filter(|_| attention) {
                        let weights: Vec<f64> = calibration.layers[name].concat();
                        let numbers = numbers.get(pair as i64).to_kind(Kind::Double).flatten(0, -1);
                        expected += (numbers * Tensor::from_slice(&weights)).sum(Kind::Double).double_value(&[]);
                    }
                    for (term, weight) in terms[pair].iter().zip(calibration.denoising.iter().flatten()) {
                        expected += term * weight;
                    }
                    assert_relative_eq!(found, expected, max_relative = 1e-5, epsilon = 1e-5);
                }
            }
        }
    }
}

#[test]
fn it_depends_on_nothing_else_and_its_parts_add_up() {
    let _no_grad = tch::no_grad_guard();
    for family in FAMILIES {
        let (model, _dir) = model(family);
        let config = config(&model, MapKind::Cosine, TokenSet::All);
        let scorer = model.with_calibration(Some(calibration(&model, &config, true, true))).unwrap();
        let images = images();
        let together = scorer.score(&request(&images, &PAIRS), &config).unwrap();
        for (pair, together) in PAIRS.into_iter().zip(together) {
            let one = ScoreConfig { batch_size: Some(1), ..config.clone() };
            let alone = scorer.score(&request(&images, &[pair]), &one).unwrap()[0];
            assert_relative_eq!(alone, together, epsilon = 1e-5);

            let image = [images[pair.0].rgb().unwrap().into_owned().into()];
            let request = Request { images: &image, texts: &[TEXTS[pair.1]], pairs: &[(0, 0)], noise: None };
            let maps = Maps { kind: MapKind::Cosine, layers: Layers::All };
            let explained = scorer.explain(&request, &maps, &config, |_| Ok(())).unwrap();
            let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / numbers.len() as f64;
            let parts: f64 =
                explained.contributions.iter().map(|(_, part)| part.sum(Kind::Double).double_value(&[])).sum();
            assert_relative_eq!(mean(&explained.scores), together, epsilon = 1e-5);
            assert_relative_eq!(parts + mean(&explained.denoising), together, epsilon = 1e-5);
        }
    }
}

#[test]
fn weights_belong_to_one_configuration() {
    let (model, _dir) = model(FAMILIES[0]);
    let config = config(&model, MapKind::Cosine, TokenSet::All);
    let images = images();
    let why =
        |model: &Model, config: &ScoreConfig| model.score(&request(&images, &PAIRS), config).unwrap_err().to_string();
    assert!(why(&model, &config).contains("there is no calibration"));
    let scorer = model.with_calibration(Some(calibration(&model, &config, true, true))).unwrap();
    for same in [
        ScoreConfig { seed: 3, ..config.clone() },
        ScoreConfig { batch_size: Some(1), ..config.clone() },
        ScoreConfig { prior: Some(Prior::Null), ..config.clone() },
        ScoreConfig { method: Method::Attention, map: MapKind::Logits, ..config.clone() },
    ] {
        scorer.score(&request(&images, &PAIRS), &same).unwrap();
    }
    let other = ScoreConfig { map: MapKind::Logits, ..config.clone() };
    assert!(why(&scorer, &other).contains(r#"map is "logits", but the calibration is of "cosine""#));
    let other = ScoreConfig { times: Times::NoiseLevels(vec![0.7, 0.4]), ..config.clone() };
    assert!(why(&scorer, &other).contains("noise_levels is"));
    let without = scorer.with_calibration(None).unwrap();
    assert!(why(&without, &config).contains("there is no calibration"));
    assert!(why(&scorer.with_deltas(None, None).unwrap(), &config).contains("there is no calibration"));
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let (model, _dir) = model(FAMILIES[0]);
    let config = config(&model, MapKind::Cosine, TokenSet::All);
    let why = |change: &dyn Fn(&mut Calibration)| {
        let mut calibration = calibration(&model, &config, true, true);
        change(&mut calibration);
        model.with_calibration(Some(calibration)).err().map(|why| why.to_string()).unwrap_or_default()
    };
    assert_eq!(why(&|_| ()), "");
    assert!(why(&|it| it.config.method = Method::Attention).contains("method"));
    assert!(why(&|it| drop(it.layers.pop_first())).contains("without weights of"));
    assert!(why(&|it| drop(it.layers.insert("up.9.9".into(), vec![]))).contains("up.9.9"));
    assert!(why(&|it| drop(it.layers.first_entry().unwrap().get_mut().pop())).contains("3 steps by"));
    assert!(why(&|it| it.denoising = Some(vec![1.0])).contains("not of 3 steps"));
    assert!(why(&|it| it.denoising = Some(vec![f64::NAN; 3])).contains("not finite"));
    assert!(why(&|it| (it.layers, it.denoising) = (BTreeMap::new(), None)).contains("without weights"));
}
