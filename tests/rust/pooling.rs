//! Eq. 4 and the ablations of Table 3, against values worked out by hand.

use approx::assert_relative_eq;
use discffusion::config::Pooling;
use discffusion::pooling::{constant, excess, gradient, pool, shares};
use tch::{Kind, Tensor};

const ALL: [Pooling; 4] = [Pooling::Lse, Pooling::MaxRow, Pooling::MaxCol, Pooling::Mean];

fn map() -> Tensor {
    Tensor::from_slice(&[1f32, 2.0, 3.0, 0.0, 5.0, -1.0]).view([2, 3])
}

#[test]
fn values_by_hand() {
    let value = |pooling, lambda| pool(&map(), pooling, lambda).double_value(&[]);
    // EvaluationOutput (1, 2, 3) and (0, 5, −1).
    let row = |row: [f64; 3], lambda: f64| row.iter().map(|a| (lambda * a).exp()).sum::<f64>().ln() / lambda;
    for lambda in [0.5, 1.0, 10.0] {
        let expected = (row([1.0, 2.0, 3.0], lambda) + row([0.0, 5.0, -1.0], lambda)) / 2.0;
        assert_relative_eq!(value(Pooling::Lse, lambda), expected, max_relative = 1e-6);
    }
    assert_relative_eq!(value(Pooling::MaxRow, 1.0), (3.0 + 5.0) / 2.0);
    assert_relative_eq!(value(Pooling::MaxCol, 1.0), (1.0 + 5.0 + 3.0) / 3.0);
    assert_relative_eq!(value(Pooling::Mean, 1.0), 10.0 / 6.0, max_relative = 1e-6);
}

#[test]
fn lse_of_large_logits_does_not_overflow() {
    let big = map() * 1e4;
    assert_relative_eq!(pool(&big, Pooling::Lse, 1.0).double_value(&[]), 4e4, max_relative = 1e-6);
}

#[test]
fn gradients_agree_with_autograd() {
    tch::manual_seed(3);
    for pooling in ALL {
        let map = Tensor::randn([2, 4, 5], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        pool(&map, pooling, 2.0).sum(Kind::Float).backward();
        let difference = (gradient(&map.detach(), pooling, 2.0) - map.grad()).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{pooling:?}: {difference}");
    }
}

#[test]
fn shares_add_up_and_fall_where_they_should() {
    tch::manual_seed(4);
    let random = Tensor::randn([3, 6, 5], (Kind::Double, tch::Device::Cpu)) * 5;
    let ties = random.round();
    for pooling in ALL {
        for map in [&random, &ties] {
            let parts = shares(map, pooling, 0.7);
            assert_eq!(parts.size(), map.size());
            let sums = parts.sum_dim_intlist([-2, -1].as_slice(), false, None);
            let off = (sums - pool(map, pooling, 0.7)).abs().max().double_value(&[]);
            assert!(off < 1e-12, "{pooling:?}: {off}");
        }
    }
    // EvaluationOutput (1, 2, 3) and (0, 5, −1); columns (1, 0), (2, 5), (3, −1).
    let of = |pooling| Vec::<f64>::try_from(shares(&map().to_kind(Kind::Double), pooling, 1.0).flatten(0, 1)).unwrap();
    assert_eq!(of(Pooling::MaxRow), [0.0, 0.0, 1.5, 0.0, 2.5, 0.0]);
    for (found, expected) in of(Pooling::MaxCol).iter().zip([1.0 / 3.0, 0.0, 1.0, 0.0, 5.0 / 3.0, 0.0]) {
        assert_relative_eq!(*found, expected, max_relative = 1e-15);
    }
    // LogSumExp: an entry's weighted value and its part of the row's entropy.
    let row = [1f64, 2.0, 3.0];
    let whole: f64 = row.iter().map(|a| a.exp()).sum();
    for (found, a) in of(Pooling::Lse).iter().zip(row) {
        let weight = a.exp() / whole;
        assert_relative_eq!(*found, weight * (a - weight.ln()) / 2.0, max_relative = 1e-12);
    }
}

#[test]
fn lse_keeps_what_tells_maps_apart_at_every_sharpness() {
    tch::manual_seed(5);
    let map = Tensor::rand([40, 77], (Kind::Float, tch::Device::Cpu)) * 1e-3 + 0.5;
    let exact = map.to_kind(Kind::Double);
    let number = |x: Tensor| x.double_value(&[]);
    let (mean, variance) = (number(exact.mean(None)), number(exact.var_dim(-1, false, false).mean(None)));
    // Of a small λ, the mean and half the variance.
    for lambda in [1e-6, 1e-4] {
        let above = number(excess(&map, Pooling::Lse, lambda)) - mean;
        assert_relative_eq!(above, lambda / 2.0 * variance, max_relative = 1e-4);
    }
    // Of a large one, the largest of each row.
    let sharp = number(excess(&(&map * 1e4), Pooling::Lse, 1e4)) + constant(Pooling::Lse, 1e4, 77);
    assert_relative_eq!(sharp, number((&map * 1e4).amax(-1, false).mean(Kind::Double)), max_relative = 1e-9);
}

#[test]
fn gradients_and_shares_keep_their_digits_where_the_map_is_large() {
    let row = Tensor::from_slice(&[1000.0f32, 1000.0001, 999.9]).view([1, 3]);
    let exact = (row.to_kind(Kind::Double) * 1e4).softmax(-1, None);
    let off = (gradient(&row, Pooling::Lse, 1e4) - &exact).abs().max().double_value(&[]);
    assert!(off < 1e-6, "{off}");
    for lambda in [1e-6, 1e4] {
        let exact = row.to_kind(Kind::Double);
        let whole = shares(&exact, Pooling::Lse, lambda).sum(Kind::Double).double_value(&[]);
        assert_relative_eq!(whole, pool(&row, Pooling::Lse, lambda).double_value(&[]), max_relative = 1e-12);
    }
}

#[test]
fn leading_axes_are_kept() {
    let maps = Tensor::zeros([2, 3, 4, 5], (Kind::Float, tch::Device::Cpu));
    for pooling in ALL {
        assert_eq!(pool(&maps, pooling, 1.0).size(), [2, 3]);
    }
}
