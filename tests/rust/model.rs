//! Score, denoiser and deltas on tiny random checkpoints of every family. Agreement with diffusers is tested from Python
//! (`tests/parity`).

use std::cell::RefCell;

use approx::assert_relative_eq;
use discffusion::config::{Heads, Layers, MapKind, Method, Pooling, Prior, ScoreConfig, Times};
use discffusion::deltas::{AttentionKind, Delta, Deltas, Projection, Target};
use discffusion::denoiser::{Batch, Capture, Captured};
use discffusion::encode::image::{Image, Rgb};
use discffusion::kernels::to_repeat;
use discffusion::model::{Event, Model};
use discffusion::noise::Time;
use discffusion::pooling;
use discffusion::score::{ObserveRequest, Request, log_mean_exp};
use tch::{Kind, Tensor};

use crate::tiny::{FAMILIES, Family, model};

const TEXTS: [&str; 2] = ["ab c", "x"];

fn image(salt: usize) -> Image {
    let data = (0..16 * 16 * 3).map(|i| ((i * (7 + salt) / 11 + i / 48) % 256) as u8).collect();
    Rgb { width: 16, height: 16, data }.into()
}

fn config(method: Method) -> ScoreConfig {
    ScoreConfig {
        method,
        map: MapKind::Logits,
        lambda: 2.0,
        layers: Layers::All,
        denoising_weight: 0.5,
        times: Times::Timesteps(vec![700.0, 200.0]),
        ..ScoreConfig::default()
    }
}

fn scores(model: &Model, images: &[Image], pairs: &[(usize, usize)], config: &ScoreConfig) -> Vec<f64> {
    let request = Request { images, texts: &TEXTS, pairs, noise: None };
    model.score(&request, config).unwrap()
}

/// What is seen of the first image at a time with a text, with the noise that scores draw.
fn seen(model: &Model, text: &str, time: f64, map: MapKind) -> discffusion::score::Observation {
    let request =
        ObserveRequest { image: &image(0), text, time, layers: Some(&Layers::All), map, prediction: true, noise: None };
    model.observe(&request, &config(Method::Attention)).unwrap()
}

#[test]
fn the_layers_have_the_names_of_their_places() {
    let names = |family| -> Vec<String> { model(family).0.layers().iter().map(|layer| layer.name.clone()).collect() };
    assert_eq!(names(Family::StableDiffusion), ["down.0.0", "mid.0.0", "mid.0.1", "up.1.0", "up.1.1"]);
    let xl = ["down.1.0.0", "down.1.0.1", "mid.0.0", "mid.0.1", "up.0.0.0", "up.0.0.1", "up.0.1.0", "up.0.1.1"];
    assert_eq!(names(Family::Xl), xl);
    assert_eq!(names(Family::Sd3), ["block.0", "block.1", "block.2"]);
}

#[test]
fn an_attention_score_is_the_mean_of_pooled_maps() {
    let _no_grad = tch::no_grad_guard();
    for family in FAMILIES {
        let (model, _dir) = model(family);
        let found = scores(&model, &[image(0)], &[(0, 0)], &config(Method::Attention))[0];
        let of_time = |time: f64| {
            let maps = seen(&model, TEXTS[0], time, MapKind::Logits).maps;
            let pooled = maps.iter().map(|(_, map)| {
                let heads = pooling::pool(&map.to_kind(Kind::Double), Pooling::Lse, 2.0);
                heads.mean(Kind::Double).double_value(&[])
            });
            pooled.sum::<f64>() / maps.len() as f64
        };
        assert_relative_eq!(found, (of_time(700.0) + of_time(200.0)) / 2.0, max_relative = 1e-6);
    }
}

#[test]
fn a_denoising_score_is_how_much_the_text_helps() {
    let _no_grad = tch::no_grad_guard();
    for family in FAMILIES {
        let (model, _dir) = model(family);
        let config = |unconditional| ScoreConfig { unconditional, ..config(Method::Denoising) };
        let target = |clean: &Tensor, noise: &Tensor, time: f64| model.process().target(clean, noise, &[Time(time)]);
        let error = |time: f64| {
            let seen = seen(&model, TEXTS[0], time, MapKind::Logits);
            (seen.prediction.unwrap() - target(&seen.clean, &seen.noise, time)).norm().double_value(&[])
        };
        let alone = scores(&model, &[image(0)], &[(0, 0)], &config(false))[0];
        assert_relative_eq!(alone, -(error(700.0) + error(200.0)) / 2.0, max_relative = 1e-6);
        // No text is the empty text, or zeros.
        let empty = match family {
            Family::StableDiffusion | Family::Sd3 => {
                model.encode_texts(&[""], config(true).truncate).unwrap().conditioning
            }
            Family::Xl => {
                let conditioning = model.encode_texts(&["a"], config(true).truncate).unwrap().conditioning;
                conditioning.zeros_like()
            }
        };
        let without = |time: f64| {
            let seen = seen(&model, TEXTS[0], time, MapKind::Logits);
            let noised = seen.noised.unsqueeze(0);
            let time = Tensor::from_slice(&[time]);
            let batch = Batch::new(
                &noised,
                &time,
                &empty,
                &[0],
                &[0],
                model.conditions(&self::config(Method::Attention)).unwrap(),
            );
            let none = vec![false; model.layers().len()];
            let captured = model.denoiser().observe(&batch, None, &Capture::prediction(&none)).unwrap();
            let target = target(&seen.clean, &seen.noise, time.double_value(&[0]));
            (captured.prediction.unwrap().squeeze_dim(0) - target).norm().double_value(&[])
        };
        let helped = scores(&model, &[image(0)], &[(0, 0)], &config(true))[0];
        let expected = (without(700.0) - error(700.0) + without(200.0) - error(200.0)) / 2.0;
        assert_relative_eq!(helped, expected, epsilon = 1e-5);
    }
}

#[test]
fn a_combined_score_is_the_weighted_sum() {
    let _no_grad = tch::no_grad_guard();
    for family in FAMILIES {
        let (model, _dir) = model(family);
        let of = |method| scores(&model, &[image(0)], &[(0, 0)], &config(method))[0];
        let expected = of(Method::Attention) + 0.5 * of(Method::Denoising);
        assert_relative_eq!(of(Method::Combined), expected, max_relative = 1e-6);
    }
}

#[test]
fn the_prior_is_subtracted_time_by_time_and_computed_once() {
    let _no_grad = tch::no_grad_guard();
    for family in FAMILIES {
        let (model, _dir) = model(family);
        for method in [Method::Attention, Method::Denoising, Method::Combined] {
            let plain = config(method);
            let config = ScoreConfig { prior: Some(Prior::Null), prior_weight: 0.7, ..plain.clone() };
            let evaluations = std::cell::Cell::new(0);
            let by_time = |config: &ScoreConfig, pairs: &[(usize, usize)]| {
                let request = Request { images: &[image(0)], texts: &TEXTS, pairs, noise: None };
                let count = |event| {
                    if let Event::Progress { total, .. } = event {
                        evaluations.set(total);
                    }
                    Ok(())
                };
                model.score_pairs(&request, config, count).unwrap()
            };
            let blind = model.blind(&TEXTS, &plain, |_| Ok(())).unwrap();
            assert_eq!((blind.len(), blind[0].len()), (2, 2));
            let pairs = [(0, 1), (0, 0)];
            let (without, with) = (by_time(&plain, &pairs), by_time(&config, &pairs));
            for ((&(_, text), without), with) in pairs.iter().zip(without).zip(with) {
                for step in 0..2 {
                    assert_relative_eq!(with[step], without[step] - 0.7 * blind[text][step], epsilon = 1e-6);
                }
            }
            // Nothing is left to compute for it.
            let empty = if method == Method::Attention { 0 } else { 2 };
            assert_eq!(evaluations.get(), 4 + empty);
            // Another seed has null images of its own.
            by_time(&ScoreConfig { seed: 5, ..config.clone() }, &pairs);
            assert_eq!(evaluations.get(), 4 + empty + 3 * (4 + empty));
        }
    }
}

#[test]
fn the_log_of_a_mean_of_exponentials_overflows_nowhere() {
    assert_relative_eq!(log_mean_exp(&[0.0, 3.0_f64.ln()]), 2.0_f64.ln(), max_relative = 1e-12);
    assert_relative_eq!(log_mean_exp(&[-2e4, -2e4]), -2e4);
    assert_relative_eq!(log_mean_exp(&[1e4, -1e4]), 1e4 - 2.0_f64.ln(), max_relative = 1e-12);
}

#[test]
fn a_score_does_not_depend_on_what_is_scored_beside_it() {
    let _no_grad = tch::no_grad_guard();
    let pairs = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let images = [image(0), image(1)];
    for family in FAMILIES {
        let (model, _dir) = model(family);
        for method in [Method::Attention, Method::Denoising, Method::Combined] {
            let whole = scores(&model, &images, &pairs, &config(method));
            for (pair, expected) in pairs.iter().zip(&whole) {
                for batch_size in [1, 3] {
                    let config = ScoreConfig { batch_size: Some(batch_size), ..config(method) };
                    let alone = scores(&model, &images, std::slice::from_ref(pair), &config)[0];
                    assert_relative_eq!(alone, *expected, epsilon = 2e-5);
                }
            }
            assert!((whole[0] - whole[1]).abs() > 1e-4, "the text makes a difference");
        }
    }
}

#[test]
fn nothing_is_computed_behind_the_last_thing_asked_for() {
    let _no_grad = tch::no_grad_guard();
    for family in FAMILIES {
        let (model, _dir) = model(family);
        let count = model.layers().len();
        let texts = model.encode_texts(&["a b"], config(Method::Attention).truncate).unwrap();
        let (noised, time) =
            (Tensor::ones([1, 4, 8, 8], (Kind::Float, tch::Device::Cpu)), Tensor::from_slice(&[500.0]));
        let batch = Batch::new(
            &noised,
            &time,
            &texts.conditioning,
            &[0],
            &[0],
            model.conditions(&self::config(Method::Attention)).unwrap(),
        );
        let formed = RefCell::new(vec![]);
        let keep = |layer: usize, map: &Tensor| {
            formed.borrow_mut().push(layer);
            map.shallow_clone()
        };
        let mut layers = vec![false; count];
        layers[1] = true;
        let captured = model.denoiser().observe(&batch, None, &Capture::maps(&layers, MapKind::Probs, &keep)).unwrap();
        assert_eq!((captured.maps.len(), captured.prediction.is_none(), formed.take()), (1, true, vec![1]));
        let map = &captured.maps[0].1;
        assert_eq!(map.size()[3] as usize, model.columns(), "probabilities over the columns of the context");
        let sums = map.sum_dim_intlist(-1, false, Kind::Double);
        if family == Family::Sd3 {
            // The rest of the attention is to image tokens.
            assert!(sums.max().double_value(&[]) < 1.0 && sums.min().double_value(&[]) > 0.0);
        } else {
            assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-5);
        }
    }
}

/// Deltas of these entries.
fn deltas(model: &Model, entries: Vec<(Target, Delta)>) -> Deltas {
    Deltas {
        architecture: model.architecture().clone(),
        entries: entries.into_iter().collect(),
        head_weights: None,
        metadata: Default::default(),
        fingerprint: None,
    }
}

fn targets(model: &Model) -> Vec<Target> {
    let all = model.architecture().targets.keys().copied();
    let own = all.filter(|target| target.attention == AttentionKind::Cross && target.projection != Projection::Out);
    // In the last block of a transformer with joint attention, the queries of the text have no use.
    let last = model.layers().len() - 1;
    let unused = |t: &Target| model.architecture().joint && t.layer == last && t.projection == Projection::Query;
    own.filter(|target| !unused(target)).collect()
}

fn random(shape: [i64; 2], scale: f64) -> Tensor {
    Tensor::randn(shape, (Kind::Float, tch::Device::Cpu)) * scale
}

#[test]
fn a_low_rank_delta_is_its_product_merged_or_not() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(3);
    for family in FAMILIES {
        let (model, _dir) = model(family);
        let pair = |target: &Target| {
            let [outputs, inputs] = model.architecture().shape(*target);
            (random([2, inputs], 0.3), random([outputs, 2], 0.3))
        };
        let pairs: Vec<(Target, (Tensor, Tensor))> = targets(&model).iter().map(|t| (*t, pair(t))).collect();
        let low = pairs.iter().map(|(target, (down, up))| {
            (*target, Delta::LowRank { down: down.shallow_clone(), up: up.shallow_clone() })
        });
        let dense = pairs.iter().map(|(target, (down, up))| (*target, Delta::Dense(up.matmul(down))));
        let (low, dense) = (deltas(&model, low.collect()), deltas(&model, dense.collect()));
        let of = |deltas: &Deltas, merge| {
            let adapted = model.with_deltas(Some(deltas.copy()), Some(merge)).unwrap();
            scores(&adapted, &[image(0)], &[(0, 0)], &config(Method::Combined))[0]
        };
        let expected = of(&dense, true);
        for found in [of(&dense, false), of(&low, true), of(&low, false)] {
            assert_relative_eq!(found, expected, epsilon = 1e-4);
        }
        let plain = scores(&model, &[image(0)], &[(0, 0)], &config(Method::Combined))[0];
        assert!((plain - expected).abs() > 1e-3, "the deltas make a difference");
        let zeros = targets(&model).into_iter().map(|target| {
            (target, Delta::Dense(Tensor::zeros(model.architecture().shape(target), (Kind::Float, tch::Device::Cpu))))
        });
        assert_relative_eq!(of(&deltas(&model, zeros.collect()), true), plain, epsilon = 1e-9);
    }
}

#[test]
fn deltas_come_back_from_a_file() {
    for family in FAMILIES {
        let (model, dir) = model(family);
        let target = targets(&model)[1];
        let weight = random(model.architecture().shape(target), 0.1);
        let mut made = deltas(&model, vec![(target, Delta::Dense(weight.copy()))]);
        made.fingerprint = Some(model.fingerprint().unwrap());
        let path = dir.path().join("deltas.safetensors");
        made.write(&path, &Default::default()).unwrap();
        let read = |model: &Model| Deltas::read(&path, model.architecture(), &|| model.fingerprint(), true);
        let again = read(&model).unwrap();
        assert_eq!(again.entries[&target].dense(), weight);
        let other = match family {
            Family::StableDiffusion => Family::Xl,
            Family::Xl => Family::Sd3,
            Family::Sd3 => Family::StableDiffusion,
        };
        let why = read(&self::model(other).0).err().unwrap().to_string();
        assert!(why.contains("another architecture"), "{why}");
    }
}

/// The gradient by segments run again is that of one graph of all.
#[test]
fn recomputed_gradients_are_those_of_one_graph() {
    tch::manual_seed(5);
    for family in FAMILIES {
        let (model, _dir) = model(family);
        let texts = model.encode_texts(&TEXTS, config(Method::Attention).truncate).unwrap();
        let noised = Tensor::randn([2, 4, 8, 8], (Kind::Float, tch::Device::Cpu));
        let times = Tensor::from_slice(&[500.0, 100.0]);
        let batch = Batch::new(
            &noised,
            &times,
            &texts.conditioning,
            &[0, 1],
            &[1, 0],
            model.conditions(&config(Method::Attention)).unwrap(),
        );
        let of_prediction = Tensor::randn([2, 4, 8, 8], (Kind::Float, tch::Device::Cpu));
        let layers = vec![true; model.layers().len()];
        let keep = |_: usize, map: &Tensor| map.square().sum_dim_intlist([1, 2, 3].as_slice(), false, Kind::Float);
        let capture = Capture { prediction: true, ..Capture::maps(&layers, MapKind::Logits, &keep) };
        // Of the middle alone: nothing before it needs a gradient.
        let trained: Vec<Target> =
            targets(&model).into_iter().filter(|t| model.layers()[t.layer].group != "down").collect();
        let leaves: Vec<(Target, Tensor)> = trained
            .iter()
            .map(|&target| (target, random(model.architecture().shape(target), 0.1).set_requires_grad(true)))
            .collect();
        let entries = leaves.iter().map(|(target, leaf)| (*target, Delta::Dense(leaf.shallow_clone())));
        let made = deltas(&model, entries.collect());
        let patch = made.patch(|target| model.denoiser().weight(target).shallow_clone(), true).unwrap();
        let gradients = || -> Vec<Tensor> {
            leaves.iter().map(|(_, leaf)| std::mem::replace(&mut leaf.grad(), Tensor::new()).copy()).collect()
        };
        let zero = || leaves.iter().for_each(|(_, leaf)| leaf.shallow_clone().zero_grad());

        let captured = model.denoiser().observe(&batch, Some(&patch), &capture).unwrap();
        let maps = captured.maps.iter().map(|(_, kept)| kept.sum(Kind::Float));
        let objective = (captured.prediction.unwrap() * &of_prediction).sum(Kind::Float);
        maps.fold(objective, |sum, map| sum + map).backward();
        let whole = gradients();
        zero();

        let patch = made.patch(|target| model.denoiser().weight(target).shallow_clone(), true).unwrap();
        let saving = || model.denoiser().observe_saving(&batch, Some(&patch), &capture);
        let (captured, saved) = tch::no_grad(|| to_repeat(saving)).unwrap();
        let ones = captured.maps.iter().map(|(layer, kept)| (*layer, kept.ones_like())).collect();
        let gradient = Captured { maps: ones, prediction: Some(of_prediction) };
        model.denoiser().backward(saved, &batch, Some(&patch), &capture, &gradient).unwrap();
        for ((target, _), (found, expected)) in leaves.iter().zip(gradients().iter().zip(&whole)) {
            let distance = (found - expected).norm().double_value(&[]) / expected.norm().double_value(&[]);
            assert!(distance < 1e-5, "{family:?} {target:?}: {distance}");
        }
    }
}

/// A configuration may name any family's groups, and no others.
#[test]
fn groups_are_options() {
    let groups = |family| -> Vec<String> { model(family).0.layers().iter().map(|layer| layer.group.clone()).collect() };
    for group in FAMILIES.into_iter().flat_map(groups) {
        assert!(discffusion::config::GROUPS.contains(&group.as_str()), "{group}");
    }
    assert!(ScoreConfig::from_json(r#"{"layers": "sideways"}"#).is_err());
}

#[test]
fn groups_and_names_select_layers() {
    let (model, _dir) = model(Family::Xl);
    let chosen = |layers: Layers| -> Vec<usize> {
        let config = ScoreConfig { layers, heads: Heads::Mean, ..config(Method::Attention) };
        let chosen = model.check_config(&config).unwrap();
        (0..chosen.len()).filter(|&layer| chosen[layer]).collect()
    };
    assert_eq!(chosen(Layers::Group("mid".into())), [2, 3]);
    assert_eq!(chosen(Layers::LastBlocks), (0..8).collect::<Vec<_>>());
    assert_eq!(chosen(Layers::Named(vec!["up.0.1.1".into(), "down.1.0.0".into()])), [0, 7]);
    let wrong = ScoreConfig { layers: Layers::Group("joint".into()), ..config(Method::Attention) };
    let why = model.check_config(&wrong).unwrap_err().to_string();
    assert!(why.contains("down, mid, up"), "{why}");
}
