//! Flow matching: the process, its scheduler's configuration, its sampler, scores of a model with it. Agreement with
//! diffusers is tested from Python too (`tests/parity/test_flow.py`).

use std::path::Path;

use approx::assert_relative_eq;
use discffusion::Error;
use discffusion::checkpoint::Json;
use discffusion::config::{DenoisingError, DenoisingTarget, Method, ScoreConfig, Times};
use discffusion::encode::image::{Image, Rgb};
use discffusion::model::Model;
use discffusion::noise::{
    DynamicShift, Flow, FlowConfig, PipelineSettings, Prediction, Process, Shift, Time, draw, read,
};
use discffusion::score::{ObserveRequest, Request};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use crate::tiny;

const SIZE: [i64; 2] = [128, 128];

fn flow(shift: Shift, terminal: Option<f64>) -> Flow {
    Flow::new(FlowConfig { train_timesteps: 1000, shift, terminal })
}

/// FLUX's shift; 2×2 latent pixels are a token.
fn dynamic(exponential: bool) -> Shift {
    Shift::Dynamic(DynamicShift { tokens: [256, 4096], mu: [0.5, 1.15], exponential, patch_size: 2 })
}

fn json(fields: Value) -> Json {
    Json::parse(Path::new("scheduler_config.json"), fields.to_string().as_bytes()).unwrap()
}

fn opened(fields: Value, prediction: Option<Prediction>) -> discffusion::Result<Box<dyn Process>> {
    read(&json(fields), None, PipelineSettings { steps_offset: None, patch_size: None }, prediction)
}

fn latent(numbers: [f32; 2]) -> Tensor {
    Tensor::from_slice(&numbers).view([1, 2, 1, 1])
}

fn numbers(x: &Tensor) -> Vec<f32> {
    Vec::try_from(x.view([-1])).unwrap()
}

#[test]
fn noise_is_mixed_in_and_the_velocity_is_the_target() {
    let flow = flow(Shift::Fixed(3.0), None);
    let process: &dyn Process = &flow;
    let (clean, noise) = (latent([1.0, 2.0]), latent([3.0, -4.0]));
    let noised = |time| numbers(&process.add_noise(&clean, &noise, &[Time(time)]));
    assert_eq!((noised(0.0), noised(250.0), noised(1000.0)), (vec![1.0, 2.0], vec![1.5, 0.5], vec![3.0, -4.0]));
    // At both ends too: it does not depend on the noise level.
    for time in [0.0, 250.0, 1000.0] {
        assert_eq!(numbers(&process.target(&clean, &noise, &[Time(time)])), [2.0, -6.0]);
    }
    assert_eq!(process.model_time(Time(333.25)), 333.25);
    assert_eq!(process.factors(Time(250.0)), (0.75, 0.25));
    // Of noise alone, x = σ ε, the clean latent is σ ε − σ v.
    assert_eq!(numbers(&process.clean_of_noise(&noise, &latent([2.0, -6.0]), Time(500.0))), [0.5, 1.0]);
    // ε̂ = z_σ + (1 − σ) v, so that an error of v is one of ε times 1 − σ.
    assert_eq!(process.error_of_noise(Time(250.0)), 0.75);
    assert_eq!(process.error_of_noise(Time(1000.0)), 0.0);
}

#[test]
fn levels_are_sigmas_and_stay_the_same_times_when_written_down() {
    let flow = flow(Shift::Fixed(3.0), None);
    assert_eq!(flow.at_level(0.29), Time(290.0));
    assert_eq!((flow.at_level(0.0), flow.at_level(1.0)), (Time(0.0), Time(1000.0)));
    let times = flow.between(0.3, 0.8, 4).unwrap();
    assert_eq!(times, [Time(800.0), Time(633.333333), Time(466.666667), Time(300.0)]);
    assert_eq!(flow.between(0.3, 0.8, 1).unwrap(), [Time(550.0)]);
    assert_eq!(flow.between(0.4, 0.4, 1).unwrap(), [Time(400.0)]);
    assert!(flow.between(0.4, 0.4, 2).unwrap_err().to_string().contains("takes 1 to 1"));
    assert_eq!(flow.at(&[0.0, 633.333333, 1000.0], "timesteps").unwrap().len(), 3);
    for outside in [-1.0, 1000.5, f64::NAN] {
        let why = flow.at(&[outside], "timesteps").unwrap_err().to_string();
        assert!(why.contains("timesteps is") && why.contains("0 to 1000"), "{why}");
    }
    for time in flow.between(0.0, 1.0, 997).unwrap().into_iter().chain(flow.steps(997, SIZE).unwrap()) {
        assert_eq!(flow.at_level(time.0 / 1000.0), time);
        assert_eq!(flow.at(&[time.0], "timesteps").unwrap(), [time]);
    }
    let all = flow.all();
    assert_eq!((all.len(), all[0], all[999]), (1000, Time(1.0), Time(1000.0)));
}

#[test]
fn the_sigmas_of_a_run_are_those_of_diffusers() {
    let plain = || (flow(Shift::Fixed(1.0), None), SIZE);
    let shifted = || (flow(Shift::Fixed(3.0), None), SIZE);
    let dynamic_ = || (flow(dynamic(true), None), SIZE);
    // 2,176 tokens, halfway between those of both shifts.
    let linear = || (flow(dynamic(false), None), [64, 136]);
    let stretched = || (flow(Shift::Fixed(3.0), Some(0.02)), SIZE);
    // The second, the middle, the last, and the sum of all, by diffusers 0.42.1:
    // s = FlowMatchEulerDiscreteScheduler(**fields); s.set_timesteps(steps, mu=mu); v = s.sigmas.double()
    // v[1], v[steps // 2], v[steps - 1], v.sum()
    // for fields {}; {"shift": 3.0}; {"use_dynamic_shifting": True}, mu 1.15; the same and {"time_shift_type": "linear"},
    // mu 0.825; {"shift": 3.0, "shift_terminal": 0.02}.
    type Case<'a> = (&'a dyn Fn() -> (Flow, [i64; 2]), i64, [f64; 3], f64);
    let expected: [Case; 15] = [
        (&plain, 4, [0.667, 0.33399999, 0.001], 2.0020000),
        (&shifted, 4, [0.8576923, 0.60215056, 0.00892857], 2.4687714),
        (&dynamic_, 4, [0.86349744, 0.61297888, 0.00315139], 2.4796277),
        (&linear, 4, [0.62299395, 0.29265574, 0.00082514], 1.9164748),
        (&stretched, 4, [0.85928208, 0.60659498, 0.02], 2.4858771),
        (&plain, 28, [0.963, 0.48199999, 0.001], 14.0139999),
        (&shifted, 28, [0.98738062, 0.73705584, 0.00892857], 18.8039255),
        (&dynamic_, 28, [0.98798054, 0.74610943, 0.00315139], 18.9684830),
        (&linear, 28, [0.95550078, 0.43428165, 0.00082514], 13.1496351),
        (&stretched, 28, [0.98752159, 0.73999321, 0.02], 18.9066563),
        (&plain, 50, [0.97961223, 0.49030611, 0.001], 25.0250000),
        (&shifted, 50, [0.99312437, 0.74343562, 0.00892857], 33.7248215),
        (&dynamic_, 50, [0.99345326, 0.75235641, 0.00315139], 34.0266028),
        (&linear, 50, [0.97539401, 0.44246787, 0.00082514], 23.4549017),
        (&stretched, 50, [0.9932012, 0.74630177, 0.02], 33.9066342),
    ];
    for (of, steps, [second, middle, last], sum) in expected {
        let (flow, size) = of();
        let sigmas = flow.sigmas(steps, size).unwrap();
        let at = |i: i64| f64::from(sigmas[i as usize]);
        assert_eq!((sigmas.len() as i64, at(0), at(steps)), (steps + 1, 1.0, 0.0));
        for (i, expected) in [(1, second), (steps / 2, middle), (steps - 1, last)] {
            assert!((at(i) - expected).abs() < 1e-7, "{steps} steps, {i}: {} is not {expected}", at(i));
        }
        let found: f64 = sigmas.iter().copied().map(f64::from).sum();
        assert!((found - sum).abs() < 1e-6, "{steps} steps: {found} is not {sum}");
        let times = flow.sampler(steps, 0.0, size).unwrap().times().to_vec();
        let of_sigmas: Vec<Time> = sigmas[..steps as usize].iter().map(|s| Time(f64::from(s * 1000.0))).collect();
        assert_eq!(times, of_sigmas);
    }
}

#[test]
fn a_dynamic_shift_is_that_of_the_number_of_image_tokens() {
    let shift = |size, exponential| match dynamic(exponential) {
        Shift::Dynamic(dynamic) => dynamic.shift(size).unwrap(),
        Shift::Fixed(_) => unreachable!(),
    };
    // 64×64 tokens at 1024 pixels, 16×16 at 256.
    assert_relative_eq!(shift([128, 128], true), 1.15f64.exp(), max_relative = 1e-12);
    assert_relative_eq!(shift([32, 32], true), 0.5f64.exp(), max_relative = 1e-12);
    // 32 × 68 = 2,176 tokens are the middle.
    assert_relative_eq!(shift([64, 136], true), 0.825f64.exp(), max_relative = 1e-12);
    assert_relative_eq!(shift([64, 136], false), 0.825, max_relative = 1e-12);
    let falling = DynamicShift { tokens: [256, 4096], mu: [1.0, 0.1], exponential: false, patch_size: 1 };
    assert!(falling.shift([128, 128]).unwrap_err().to_string().contains("16384 tokens"));
}

#[test]
fn euler_steps_with_true_velocities_lead_to_the_clean_latent() {
    for shift in [Shift::Fixed(1.0), Shift::Fixed(3.0), dynamic(true)] {
        let flow = flow(shift, None);
        let process: &dyn Process = &flow;
        for steps in [1, 4, 28, 50] {
            let sampler = process.sampler(steps, 0.0, SIZE).unwrap();
            let shape = [4, 8, 8];
            let clean = draw(1, Time(0.0), 0, shape).unsqueeze(0);
            let noise = draw(2, Time(0.0), 0, shape).unsqueeze(0);
            assert_eq!(sampler.times()[0], Time(1000.0));
            let mut x = noise.shallow_clone();
            for (step, &time) in sampler.times().iter().enumerate() {
                let expected = process.add_noise(&clean, &noise, &[time]);
                assert!((&x - expected).abs().max().double_value(&[]) < 1e-5);
                x = sampler.step(step, &(&noise - &clean), &x, &|| unreachable!("no noise is added"));
            }
            assert!((x - clean).abs().max().double_value(&[]) < 1e-5);
        }
    }
    assert!(flow(Shift::Fixed(1.0), None).sampler(0, 0.0, SIZE).is_err());
    let flow = flow(Shift::Fixed(1.0), Some(0.1));
    let why = flow.sampler(1, 0.0, SIZE).err().unwrap().to_string();
    assert!(why.contains("steps is 1") && why.contains("2 to 1000"), "{why}");
}

#[test]
fn a_scheduler_is_read_by_its_class() {
    let class = "FlowMatchEulerDiscreteScheduler";
    let of = |config: Value, patch_size| FlowConfig::read(&json(config), patch_size).unwrap();
    let published = json!({"_class_name": class, "num_train_timesteps": 1000, "shift": 3.0});
    let expected = FlowConfig { train_timesteps: 1000, shift: Shift::Fixed(3.0), terminal: None };
    assert_eq!(of(published.clone(), None), expected);
    assert_eq!(of(json!({}), Some(2)), FlowConfig { shift: Shift::Fixed(1.0), ..expected.clone() });
    let flux = json!({
        "use_dynamic_shifting": true, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
        "max_image_seq_len": 4096, "shift": 3.0, "invert_sigmas": false, "use_karras_sigmas": null, "shift_terminal": 0.02,
    });
    assert_eq!(of(flux, Some(2)), FlowConfig { shift: dynamic(true), terminal: Some(0.02), ..expected });

    let process = opened(published.clone(), None).unwrap();
    assert_eq!((process.prediction(), process.train_timesteps()), (Prediction::Flow, 1000));
    assert_eq!((process.alphas_cumprod(), process.default_steps(), process.takes_eta()), (None, 28, false));
    assert_eq!(opened(published.clone(), Some(Prediction::Flow)).unwrap().prediction(), Prediction::Flow);
    let named =
        read(&json(json!({})), Some(class.to_owned()), PipelineSettings { steps_offset: None, patch_size: None }, None);
    assert_eq!(named.unwrap().prediction(), Prediction::Flow);
    let betas = json!({"_class_name": "DDIMScheduler"});
    assert_eq!(opened(betas.clone(), Some(Prediction::Velocity)).unwrap().prediction(), Prediction::Velocity);
    for (fields, prediction) in [(published, Prediction::Velocity), (betas, Prediction::Flow)] {
        match opened(fields, Some(prediction)).err().unwrap() {
            Error::Config(why) => assert!(why.contains(prediction.name()), "{why}"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let refused = [
        json!({"use_karras_sigmas": true}),
        json!({"use_exponential_sigmas": true}),
        json!({"use_beta_sigmas": true}),
        json!({"invert_sigmas": true}),
        json!({"stochastic_sampling": true}),
        json!({"prediction_type": "epsilon"}),
        json!({"shift": 0.0}),
        json!({"shift": "3"}),
        json!({"num_train_timesteps": 0}),
        json!({"shift_terminal": 1.0}),
        json!({"time_shift_type": "cosine", "use_dynamic_shifting": true}),
        json!({"base_shift": -0.5, "use_dynamic_shifting": true, "time_shift_type": "linear"}),
        json!({"max_image_seq_len": 256, "use_dynamic_shifting": true}),
    ];
    for fields in refused {
        let name = fields.as_object().unwrap().keys().find(|name| !name.starts_with("use_dyn")).unwrap().clone();
        let why = FlowConfig::read(&json(fields), Some(2)).unwrap_err().to_string();
        assert!(why.contains(&name) && why.contains("scheduler_config.json"), "{name}: {why}");
    }
    // A UNet has no patches to count.
    let why = FlowConfig::read(&json(json!({"use_dynamic_shifting": true})), None).unwrap_err().to_string();
    assert!(why.contains("use_dynamic_shifting"), "{why}");
    let file = json!({"_class_name": "DDIMScheduler", "prediction_type": "flow_prediction"});
    assert!(opened(file, None).err().unwrap().to_string().contains("prediction_type"));
}

#[test]
fn deltas_know_the_process_but_not_the_shift() {
    let settings = |shift, train_timesteps| {
        Flow::new(FlowConfig { train_timesteps, shift: Shift::Fixed(shift), terminal: None }).settings()
    };
    assert_eq!(settings(1.0, 1000), settings(3.0, 1000));
    assert_ne!(settings(1.0, 1000), settings(1.0, 500));
    let diffusion = opened(json!({"_class_name": "DDIMScheduler"}), None).unwrap().settings();
    for ((name, value), (other_name, other)) in settings(1.0, 1000).into_iter().zip(diffusion) {
        assert_eq!(name, other_name);
        assert_ne!(value, other);
    }
}

/// Stable Diffusion's network as that of a flow.
fn model() -> (Model, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    tiny::write(dir.path(), tiny::Family::StableDiffusion);
    let scheduler = json!({"_class_name": FlowConfig::CLASS, "shift": 3.0});
    std::fs::write(dir.path().join("scheduler/scheduler_config.json"), scheduler.to_string()).unwrap();
    (Model::load(dir.path(), None, Device::Cpu, Kind::Float).unwrap(), dir)
}

fn image() -> Image {
    let data = (0..16 * 16 * 3).map(|i| ((i * 7 / 11 + i / 48) % 256) as u8).collect();
    Rgb { width: 16, height: 16, data }.into()
}

fn scored(model: &Model, config: &ScoreConfig) -> f64 {
    let request = Request { images: &[image()], texts: &["ab c"], pairs: &[(0, 0)], noise: None };
    model.score(&request, config).unwrap()[0]
}

const LEVELS: [f64; 3] = [0.9, 0.625, 0.3333];

fn config(error: DenoisingError, target: DenoisingTarget) -> ScoreConfig {
    ScoreConfig {
        method: Method::Denoising,
        denoising_error: error,
        denoising_target: target,
        unconditional: false,
        times: Times::NoiseLevels(LEVELS.to_vec()),
        ..ScoreConfig::default()
    }
}

#[test]
fn the_denoising_score_is_the_error_of_the_velocity_or_of_the_noise_that_it_implies() {
    let _no_grad = tch::no_grad_guard();
    let (model, _dir) = model();
    let (mut velocity, mut noise, mut square) = (0.0, 0.0, 0.0);
    for level in LEVELS {
        let request = ObserveRequest {
            image: &image(),
            text: "ab c",
            time: 1000.0 * level,
            layers: None,
            map: discffusion::config::MapKind::Probs,
            prediction: true,
            noise: None,
        };
        let seen = model.observe(&request, &ScoreConfig::default()).unwrap();
        let predicted = seen.prediction.unwrap();
        let mixed = &seen.clean * (1.0 - level) + &seen.noise * level;
        assert!((&mixed - &seen.noised).abs().max().double_value(&[]) < 1e-6);
        velocity -= (&seen.noise - &seen.clean - &predicted).norm().double_value(&[]) / 3.0;
        let implied = &seen.noised + predicted * (1.0 - level);
        let error = &seen.noise - implied;
        noise -= error.norm().double_value(&[]) / 3.0;
        square -= error.square().mean(Kind::Double).double_value(&[]) / 3.0;
    }
    let score = |error, target| scored(&model, &config(error, target));
    let norm = DenoisingError::Norm;
    assert_relative_eq!(score(norm, DenoisingTarget::Prediction), velocity, max_relative = 1e-6);
    assert_relative_eq!(score(norm, DenoisingTarget::Noise), noise, max_relative = 1e-6);
    assert_relative_eq!(score(DenoisingError::Mse, DenoisingTarget::Noise), square, max_relative = 1e-6);
    assert!((velocity - noise).abs() > 0.1);
}

#[test]
fn a_level_has_the_same_noise_however_it_is_asked_for() {
    let _no_grad = tch::no_grad_guard();
    let (model, _dir) = model();
    let of = |times| {
        let config = ScoreConfig { times, ..config(DenoisingError::Norm, DenoisingTarget::Prediction) };
        (scored(&model, &config), model.times(&config).unwrap())
    };
    for times in [Times::Range { low: 0.3, high: 0.8, steps: 10 }, Times::Steps(7)] {
        let (expected, found) = of(times);
        let levels = of(Times::NoiseLevels(found.iter().map(|time| time.0 / 1000.0).collect()));
        let given = of(Times::Timesteps(found.iter().map(|time| time.0).collect()));
        assert_eq!([levels, given], [(expected, found.clone()), (expected, found)]);
    }
}

#[test]
fn at_both_ends_of_the_process_scores_are_finite() {
    let _no_grad = tch::no_grad_guard();
    let (model, _dir) = model();
    for unconditional in [false, true] {
        let times = Times::NoiseLevels(vec![1.0, 0.0]);
        let config = ScoreConfig { unconditional, times, ..config(DenoisingError::Norm, DenoisingTarget::Prediction) };
        assert!(scored(&model, &config).is_finite());
    }
    let vectors = model.embed_texts(&["ab c", "x"], &ScoreConfig::default(), |_| Ok(())).unwrap();
    assert_relative_eq!(vectors.norm().double_value(&[]), 2f64.sqrt(), max_relative = 1e-5);
}

/// The factor of the error is right for diffusion models too.
#[test]
fn the_implied_noise_of_a_diffusion_models_velocity() {
    for prediction in [Prediction::Epsilon, Prediction::Velocity] {
        let process = opened(json!({"_class_name": "DDIMScheduler"}), Some(prediction)).unwrap();
        let process: &dyn Process = process.as_ref();
        let (clean, noise, time) = (latent([1.0, 2.0]), latent([3.0, -4.0]), Time(400.0));
        let (signal, sigma) = process.factors(time);
        let off = latent([0.5, 0.25]);
        let predicted = process.target(&clean, &noise, &[time]) + &off;
        let implied = match prediction {
            Prediction::Velocity => predicted * signal + process.add_noise(&clean, &noise, &[time]) * sigma,
            _ => predicted,
        };
        let found = (implied - noise).norm().double_value(&[]);
        let expected = off.norm().double_value(&[]) * process.error_of_noise(time);
        assert_relative_eq!(found, expected, max_relative = 1e-5);
    }
}
