//! Eq. 3, the schedule and the seeded noise. Agreement with diffusers is tested from Python (`tests/parity`).

use approx::assert_relative_eq;
use discffusion::noise::{
    BetaSchedule, Prediction, Process, SamplingConfig, Schedule, SchedulerConfig, Spacing, Time, draw,
};
use tch::{Kind, Tensor};

fn stable_diffusion() -> SchedulerConfig {
    SchedulerConfig {
        train_timesteps: 1000,
        beta_start: 0.00085,
        beta_end: 0.012,
        betas: BetaSchedule::ScaledLinear,
        prediction: Prediction::Epsilon,
        spacing: Spacing::Leading,
        steps_offset: 1,
        zero_terminal_snr: false,
        sampling: SamplingConfig::default(),
    }
}

#[test]
fn stable_diffusion_alphas() {
    let schedule = Schedule::new(stable_diffusion());
    let alphas = schedule.alphas_cumprod();
    assert_eq!(alphas.len(), 1000);
    // Published for this schedule: ᾱ_0 = 1 − 0.00085, ᾱ_999 = 0.0047 (Lin et al. 2024, table 1: √ᾱ_T = 0.068265).
    assert_relative_eq!(alphas[0], 0.99915, max_relative = 1e-6);
    assert_relative_eq!(alphas[999].sqrt(), 0.068265, max_relative = 1e-4);
}

#[test]
fn zero_terminal_snr_ends_in_noise_alone() {
    let config = SchedulerConfig { zero_terminal_snr: true, prediction: Prediction::Velocity, ..stable_diffusion() };
    let schedule = Schedule::new(config);
    assert_eq!(schedule.alphas_cumprod()[999], 0.0);
    assert_relative_eq!(schedule.alphas_cumprod()[0], 0.99915, max_relative = 1e-5);
    let process: &dyn Process = &schedule;
    let latent = |numbers: [f32; 2]| Tensor::from_slice(&numbers).view([1, 2, 1, 1]);
    let numbers = |x: Tensor| Vec::<f32>::try_from(x.view([-1])).unwrap();
    let (clean, noise) = (latent([1.0, 2.0]), latent([3.0, -4.0]));
    assert_eq!(numbers(process.add_noise(&clean, &noise, &[Time(999.0)])), [3.0, -4.0]);
    assert_eq!(numbers(process.target(&clean, &noise, &[Time(999.0)])), [-1.0, -2.0]);
}

#[test]
fn timesteps_by_spacing() {
    let of = |spacing, offset, steps| {
        let config = SchedulerConfig { spacing, steps_offset: offset, ..stable_diffusion() };
        Schedule::new(config).timesteps(steps).unwrap()
    };
    assert_eq!(of(Spacing::Leading, 1, 4), [751, 501, 251, 1]);
    assert_eq!(of(Spacing::Trailing, 0, 4), [999, 749, 499, 249]);
    assert_eq!(of(Spacing::Linspace, 0, 4), [999, 666, 333, 0]);
    let schedule = Schedule::new(stable_diffusion());
    assert!(schedule.timesteps(0).unwrap_err().to_string().contains("steps is 0"));
    assert!(schedule.timesteps(1001).is_err());
}

#[test]
fn noise_is_a_function_of_its_arguments() {
    let vec = |tensor: Tensor| Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
    let noise = |seed, t, repeat| vec(draw(seed, Time(t), repeat, [4, 8, 8]));
    assert_eq!(noise(0, 500.0, 0), noise(0, 500.0, 0));
    assert_ne!(noise(0, 500.0, 0), noise(1, 500.0, 0));
    assert_ne!(noise(0, 500.0, 0), noise(0, 501.0, 0));
    assert_ne!(noise(0, 500.0, 0), noise(0, 500.0, 1));
    // Pinned: a change of generator would silently change every published score.
    let pinned = &noise(0, 500.0, 0)[..4];
    assert_eq!(pinned, PINNED);
}

const PINNED: [f32; 4] = [0.118_961_89, 1.803_813_7, 0.909_686_3, -0.538_992_3];

#[test]
fn noise_is_standard_normal() {
    let noise = draw(7, Time(1.0), 0, [4, 64, 64]);
    // 16,384 draws: the mean's standard error is 0.008.
    assert!(noise.mean(Kind::Float).double_value(&[]).abs() < 0.04);
    assert_relative_eq!(noise.std(true).double_value(&[]), 1.0, epsilon = 0.03);
}
