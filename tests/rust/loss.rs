//! Losses against values worked out by hand, and their gradients against finite differences.

use approx::assert_relative_eq;
use discffusion::config::Negatives;
use discffusion::train::loss::{Comparison, LossValue, binary_cross_entropy, cross_entropy, diffusion, triplet};

/// Score 0 matches; 1 is another image, 2 another text.
fn one() -> Vec<Comparison> {
    vec![Comparison { positive: 0, other_images: vec![1], other_texts: vec![2] }]
}

/// A 2 × 2 item: scores 0 and 3 match.
fn two() -> Vec<Comparison> {
    vec![
        Comparison { positive: 0, other_images: vec![2], other_texts: vec![1] },
        Comparison { positive: 3, other_images: vec![1], other_texts: vec![2] },
    ]
}

#[test]
fn triplet_by_hand() {
    let scores = [0.5, 0.45, 0.1];
    let hardest = triplet(&scores, &one(), 0.2, Negatives::Hardest);
    assert_relative_eq!(hardest.value, 0.15, max_relative = 1e-12);
    assert_eq!(hardest.gradient, [-1.0, 1.0, 0.0]);
    let mean = triplet(&scores, &one(), 0.2, Negatives::Mean);
    assert_relative_eq!(mean.value, 0.075, max_relative = 1e-12);
    assert_eq!(mean.gradient, [-0.5, 0.5, 0.0]);
}

#[test]
fn an_inactive_hinge_has_no_gradient() {
    for negatives in [Negatives::Hardest, Negatives::Mean] {
        let loss = triplet(&[0.5, 0.2, 0.1], &one(), 0.2, negatives);
        assert_eq!(loss, LossValue { value: 0.0, gradient: vec![0.0; 3], active: 0.0 });
    }
}

#[test]
fn half_of_two_pairs_is_active() {
    let loss = triplet(&[1.0, 0.5, 0.5, 0.6], &two(), 0.2, Negatives::Hardest);
    assert_relative_eq!(loss.active, 0.5);
    assert_relative_eq!(loss.value, 0.05, max_relative = 1e-12);
}

#[test]
fn what_is_no_number_is_not_taken_for_an_inactive_hinge() {
    assert!(triplet(&[f64::NAN, 0.2, 0.1], &one(), 0.2, Negatives::Hardest).value.is_nan());
}

#[test]
fn cross_entropy_by_hand() {
    let comparison = vec![Comparison { positive: 0, other_images: vec![], other_texts: vec![1] }];
    let loss = cross_entropy(&[1.0, 0.0], &comparison);
    assert_relative_eq!(loss.value, 0.313_261_687_518_222_8, max_relative = 1e-12);
    // log 2 of two equal candidates, and log 3 of three
    assert_relative_eq!(cross_entropy(&[7.0; 3], &one()).value, 2f64.ln(), max_relative = 1e-12);
    let three = vec![Comparison { positive: 0, other_images: vec![1, 2], other_texts: vec![] }];
    assert_relative_eq!(cross_entropy(&[7.0; 3], &three).value, 3f64.ln(), max_relative = 1e-12);
    assert!(cross_entropy(&[-1e4, 1e4], &comparison).value.is_finite());
}

#[test]
fn binary_cross_entropy_by_hand() {
    let comparison = vec![Comparison { positive: 0, other_images: vec![1], other_texts: vec![] }];
    let loss = binary_cross_entropy(&[2.0, -1.0], &comparison);
    assert_relative_eq!(loss.value, 0.220_094_849_280_6, max_relative = 1e-12);
    assert!(binary_cross_entropy(&[-1e4, 1e4], &comparison).value.is_finite());
}

#[test]
fn diffusion_is_the_mean() {
    let loss = diffusion(&[1.0, 3.0]);
    assert_relative_eq!(loss.value, 2.0);
    assert_eq!(loss.gradient, [0.5, 0.5]);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let scores = [0.31, 0.42, 0.17, 0.55];
    type Loss<'a> = &'a dyn Fn(&[f64]) -> LossValue;
    let losses: [(&str, Loss); 4] = [
        ("hardest", &|scores| triplet(scores, &two(), 0.3, Negatives::Hardest)),
        ("mean", &|scores| triplet(scores, &two(), 0.3, Negatives::Mean)),
        ("cross entropy", &|scores| cross_entropy(scores, &two())),
        ("binary cross entropy", &|scores| binary_cross_entropy(scores, &two())),
    ];
    for (name, loss) in losses {
        let gradient = loss(&scores).gradient;
        assert!(gradient.iter().any(|slope| slope.abs() > 0.01), "{name} is flat");
        for i in 0..scores.len() {
            let at = |shift: f64| {
                let mut moved = scores;
                moved[i] += shift;
                loss(&moved).value
            };
            let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((slope - gradient[i]).abs() < 1e-8, "{name}, score {i}: {slope} and {}", gradient[i]);
        }
    }
}
