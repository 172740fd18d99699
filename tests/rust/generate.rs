//! The samplers. Agreement with diffusers is tested from Python (`tests/parity`).

use approx::assert_relative_eq;

use discffusion::config::GenerateConfig;
use discffusion::noise::{
    BetaSchedule, Prediction, Process, SamplerKind, SamplingConfig, Schedule, SchedulerConfig, Spacing, Time, draw,
};
use tch::{Kind, Tensor};

fn config(prediction: Prediction, sampler: SamplerKind) -> SchedulerConfig {
    SchedulerConfig {
        train_timesteps: 1000,
        beta_start: 0.00085,
        beta_end: 0.012,
        betas: BetaSchedule::ScaledLinear,
        prediction,
        spacing: Spacing::Leading,
        steps_offset: 1,
        zero_terminal_snr: false,
        sampling: SamplingConfig { sampler, ..SamplingConfig::default() },
    }
}

/// How far the end is from the clean latent if the network always predicts what is true of the latents it sees.
fn distance(config: &SchedulerConfig, steps: i64, eta: f64) -> f64 {
    let schedule = Schedule::new(config.clone());
    let process: &dyn Process = &schedule;
    let sampler = process.sampler(steps, eta, [8, 8]).unwrap();
    let shape = [4, 8, 8];
    let clean = draw(1, Time(0.0), 0, shape).unsqueeze(0);
    let mut x = process.add_noise(&clean, &draw(2, Time(0.0), 0, shape).unsqueeze(0), &sampler.times()[..1]);
    for (step, &time) in sampler.times().iter().enumerate() {
        let (signal, sigma) = process.factors(time);
        let noise = (&x - &clean * signal) / sigma;
        let predicted = process.target(&clean, &noise, &[time]);
        x = sampler.step(step, &predicted, &x, &|| draw(3, time, 1, shape).unsqueeze(0));
    }
    (x - clean).abs().max().double_value(&[])
}

#[test]
fn true_predictions_lead_to_the_clean_latent() {
    for prediction in Prediction::ALL {
        // With 1,000 steps and an offset of 1 the last one ends at timestep 0, which is not without noise.
        for steps in [1, 4, 50, 500] {
            for eta in [0.0, 0.5, 1.0] {
                let off = distance(&config(prediction, SamplerKind::Ddim), steps, eta);
                assert!(off < 1e-3, "{prediction:?}, {steps} steps, eta {eta}: {off}");
            }
        }
        // Their last step keeps a share of the noised latent, see `c_skip`: next to none.
        assert!(distance(&config(prediction, SamplerKind::LatentConsistency), 4, 0.0) < 1e-3);
    }
}

#[test]
fn the_last_step_ends_at_the_first_timestep_or_at_no_noise() {
    let ends = |alpha_to_one: bool| {
        let mut config = config(Prediction::Epsilon, SamplerKind::Ddim);
        config.sampling.alpha_to_one = alpha_to_one;
        distance(&config, 10, 0.0)
    };
    assert!(ends(true) < 1e-4);
    // √(1 − ᾱ_0) = 0.029 of the noise is left, the largest of 256 numbers about three times that.
    assert_relative_eq!(ends(false), 0.08, max_relative = 0.3);
}

#[test]
fn consistency_models_add_noise_between_steps_alone() {
    let config = config(Prediction::Epsilon, SamplerKind::LatentConsistency);
    let schedule = Schedule::new(config.clone());
    let sampler = schedule.sampler(4, 0.0, [8, 8]).unwrap();
    // 50 of 1,000 timesteps are 19, 39, …, 999; every twelfth and a half of them, from the noisiest.
    assert_eq!(sampler.times(), Time::of([999, 759, 499, 259]));
    let zero = Tensor::zeros([1, 4, 8, 8], (Kind::Float, tch::Device::Cpu));
    let added = |step| {
        let noise = || Tensor::ones([1, 4, 8, 8], (Kind::Float, tch::Device::Cpu));
        sampler.step(step, &zero, &zero, &noise).max().double_value(&[])
    };
    assert_relative_eq!(added(0), schedule.factors(Time(759.0)).1, max_relative = 1e-6);
    assert_eq!(added(3), 0.0);
    let too_many = schedule.sampler(51, 0.0, [8, 8]).err().unwrap().to_string();
    assert!(too_many.contains("1 to 50"), "{too_many}");
}

#[test]
fn options_are_checked_by_name() {
    assert_eq!(GenerateConfig::from_json("{}").unwrap(), GenerateConfig::default());
    let json = r#"{"steps": 4, "guidance_scale": 0.5, "eta": 1, "height": 64, "num_images": 2, "batch_size": "auto"}"#;
    let config = GenerateConfig::from_json(json).unwrap();
    assert_eq!((config.steps, config.guidance_scale, config.height), (Some(4), Some(0.5), Some(64)));
    assert_eq!(GenerateConfig::from_json(&config.to_json()).unwrap(), config);
    for bad in [r#"{"steps": 0}"#, r#"{"eta": 1.1}"#, r#"{"guidance_scale": "x"}"#, r#"{"width": 0}"#] {
        let name = bad.split('"').nth(1).unwrap();
        assert!(GenerateConfig::from_json(bad).unwrap_err().to_string().contains(name), "{bad}");
    }
    assert!(GenerateConfig::from_json(r#"{"stesp": 1}"#).unwrap_err().to_string().contains("num_images"));
}
