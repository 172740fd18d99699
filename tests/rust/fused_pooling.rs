//! Attention that pools its map, against the map itself: the numbers that a score is made of must be the same.

use std::ops::Range;

use discffusion::config::MapKind;
use discffusion::config::Pooling;
use discffusion::kernels::shim;
use discffusion::kernels::to_repeat;
use discffusion::pooling::{FusedPooling, Qkv, attend};
use discffusion::pooling::{excess, gradient};
use tch::{Device, Kind, Tensor};

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let [a, b] = [a, b].map(|x| x.to_kind(Kind::Double));
    ((&a - &b).abs().max() / b.abs().max()).double_value(&[])
}

/// Samples, heads, rows, keys, width of a head.
type Shape = [i64; 5];

/// Stable Diffusion's, the pocket model's, and odd ones: single rows and keys, blocks that are not full, many keys.
const SHAPES: [Shape; 9] = [
    [1, 5, 1024, 77, 64],
    [2, 3, 64, 77, 16],
    [3, 8, 16, 77, 40],
    [1, 1, 1, 1, 1],
    [2, 2, 257, 7, 3],
    [1, 3, 300, 16, 8],
    [2, 1, 5, 17, 160],
    [1, 2, 33, 512, 4],
    [5, 1, 513, 31, 5],
];

/// `[B, tokens, H·d]` split into heads, as projections come: strided.
fn heads(shape: Shape, tokens: i64) -> Tensor {
    let [samples, heads, _, _, d] = shape;
    Tensor::randn([samples, tokens, heads * d], (Kind::Float, Device::Cpu))
        .view([samples, tokens, heads, d])
        .transpose(1, 2)
}

fn map(q: &Tensor, k: &Tensor, scale: f64, of: MapKind) -> Tensor {
    let scores = (q.to_kind(Kind::Float) * scale).matmul(&k.to_kind(Kind::Float).transpose(-1, -2));
    if of == MapKind::Logits { scores } else { scores.softmax(-1, None) }
}

/// Eq. 4 and the strength of Eq. 7 by the operators that they are defined with.
fn expected(map: &Tensor, tokens: Option<&[Range<usize>]>, lambda: f64) -> [Tensor; 2] {
    let part = |sample: i64| {
        let map = map.narrow(0, sample, 1);
        match tokens {
            Some(tokens) => {
                let own = &tokens[sample as usize];
                map.narrow(-1, own.start as i64, own.len() as i64)
            }
            None => map,
        }
    };
    let by_sample = |f: &dyn Fn(&Tensor) -> Tensor| {
        Tensor::cat(&(0..map.size()[0]).map(|sample| f(&part(sample))).collect::<Vec<_>>(), 0)
    };
    let strength = |map: &Tensor| {
        (map * gradient(map, Pooling::Lse, lambda)).abs().sum_dim_intlist([-2, -1].as_slice(), false, None)
    };
    [by_sample(&|map| excess(map, Pooling::Lse, lambda)), by_sample(&strength)]
}

#[test]
fn pooled_attention_is_that_of_the_map() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(11);
    for shape in SHAPES {
        let [samples, _, rows, keys, d] = shape;
        let (q, k, v) = (heads(shape, rows) * 2.0, heads(shape, keys), heads(shape, keys));
        let scale = (d as f64).powf(-0.5);
        let own: Vec<Range<usize>> = (0..samples as usize)
            .map(|sample| {
                let start = sample.min(keys as usize - 1);
                start..(start + 1 + 5 * sample).min(keys as usize)
            })
            .collect();
        for (of, lambda) in
            [(MapKind::Logits, 1.0), (MapKind::Logits, 3.5), (MapKind::Probs, 1.0), (MapKind::Probs, 200.0)]
        {
            for tokens in [None, Some(own.as_slice())] {
                let map = map(&q, &k, scale, of);
                let [pooled, strength] = expected(&map, tokens, lambda);
                let how = FusedPooling { lambda, tokens, ranges: None, strength: true };
                for v in [Some(&v), None] {
                    let (pooled_attention, output) =
                        attend(Qkv { q: &q, k: &k, v }, scale, of, &how).expect("it is made for the CPU");
                    let place = format!("{shape:?} {of:?} λ = {lambda} {tokens:?}");
                    assert!(relative(&pooled_attention.pooled, &pooled) < 1e-6, "{place}");
                    assert!(relative(pooled_attention.strength.as_ref().unwrap(), &strength) < 2e-6, "{place}");
                    assert_eq!(output.is_some(), v.is_some());
                    if let (Some(output), Some(v)) = (output, v) {
                        let probabilities = map_of_probabilities(&q, &k, scale);
                        assert!(relative(&output, &probabilities.matmul(v)) < 2e-6, "{place}");
                    }
                }
            }
        }
    }
}

fn map_of_probabilities(q: &Tensor, k: &Tensor, scale: f64) -> Tensor {
    map(q, k, scale, MapKind::Probs)
}

/// Eq. 4 without its constant, from scores in float64.
fn exactly(scores: &Tensor, of: MapKind, lambda: f64) -> Tensor {
    let map = if of == MapKind::Logits { scores.shallow_clone() } else { scores.softmax(-1, None) };
    excess(&map, Pooling::Lse, lambda)
}

#[test]
fn what_tells_maps_apart_is_left_at_every_sharpness() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(15);
    // Sixteen texts for one image.
    let shape = [16, 4, 256, 77, 16];
    let (q, k) = (heads([1, 4, 256, 77, 16], 256).expand([16, 4, 256, 16], false), heads(shape, 77));
    let scores = (&q.to_kind(Kind::Double) * 0.25).matmul(&k.to_kind(Kind::Double).transpose(-1, -2));
    for of in [MapKind::Logits, MapKind::Probs] {
        for lambda in [1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4] {
            let how = FusedPooling { lambda, tokens: None, ranges: None, strength: false };
            let found = attend(Qkv { q: &q, k: &k, v: None }, 0.25, of, &how).unwrap().0.pooled;
            let [found, exact] = [found, exactly(&scores, of, lambda)].map(|x| x.mean_dim(1, false, None));
            let differences = |x: &Tensor| x.unsqueeze(0) - x.unsqueeze(1);
            let off = relative(&differences(&found), &differences(&exact));
            assert!(off < 1e-3, "{of:?} λ = {lambda}: {off}");
            assert_eq!(found.argsort(0, false), exact.argsort(0, false), "{of:?} λ = {lambda}");
        }
    }
}

#[test]
fn large_scores_neither_overflow_nor_lose_their_order() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(12);
    let shape = [1, 2, 40, 77, 16];
    let (q, k) = (heads(shape, 40) * 300.0, heads(shape, 77) * 300.0);
    for of in [MapKind::Logits, MapKind::Probs] {
        let [pooled, _] = expected(&map(&q, &k, 1.0, of), None, 1.0);
        let how = FusedPooling { lambda: 1.0, tokens: None, ranges: None, strength: false };
        let (pooled_attention, _) = attend(Qkv { q: &q, k: &k, v: None }, 1.0, of, &how).unwrap();
        assert!(relative(&pooled_attention.pooled, &pooled) < 1e-6, "{of:?}");
    }
}

#[test]
fn what_is_not_a_number_stays_none() {
    let _no_grad = tch::no_grad_guard();
    let shape = [1, 1, 20, 77, 8];
    let (q, k) = (heads(shape, 20), heads(shape, 77));
    let _ = q.get(0).get(0).get(3).fill_(f64::NAN);
    let how = FusedPooling { lambda: 1.0, tokens: None, ranges: None, strength: true };
    for of in [MapKind::Logits, MapKind::Probs] {
        let (pooled_attention, output) = attend(Qkv { q: &q, k: &k, v: Some(&k) }, 1.0, of, &how).unwrap();
        assert!(pooled_attention.pooled.double_value(&[0, 0]).is_nan());
        assert!(output.unwrap().get(0).get(0).get(3).isnan().all().int64_value(&[]) == 1);
    }
}

#[test]
fn rows_may_share_their_keys_and_types_may_be_half() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(13);
    let shape = [4, 2, 50, 77, 16];
    let q = heads(shape, 50);
    let one = heads([1, 2, 50, 77, 16], 77);
    let k = one.expand([4, 2, 77, 16], false);
    let how = FusedPooling { lambda: 1.0, tokens: None, ranges: None, strength: false };
    let (pooled_attention, output) = attend(Qkv { q: &q, k: &k, v: Some(&k) }, 0.25, MapKind::Probs, &how).unwrap();
    let map = map(&q, &k, 0.25, MapKind::Probs);
    assert!(relative(&pooled_attention.pooled, &excess(&map, Pooling::Lse, 1.0)) < 1e-6);
    assert!(relative(&output.unwrap(), &map.matmul(&k)) < 2e-6);

    let [half_q, half_k] = [&q, &k].map(|x| x.to_kind(Kind::BFloat16));
    let (pooled_attention, output) =
        attend(Qkv { q: &half_q, k: &half_k, v: Some(&half_k) }, 0.25, MapKind::Logits, &how).unwrap();
    let map = map_of_probabilities(&half_q, &half_k, 0.25);
    let scores = (half_q.to_kind(Kind::Float) * 0.25).matmul(&half_k.to_kind(Kind::Float).transpose(-1, -2));
    assert!(relative(&pooled_attention.pooled, &excess(&scores, Pooling::Lse, 1.0)) < 1e-6);
    let output = output.unwrap();
    assert_eq!(output.kind(), Kind::BFloat16);
    assert!(relative(&output, &map.matmul(&half_k.to_kind(Kind::Float))) < 1e-2, "one rounding to 8 bits");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(14);
    let shape = [2, 5, 700, 77, 64];
    let (q, k) = (heads(shape, 700), heads(shape, 77));
    let how = FusedPooling { lambda: 1.0, tokens: None, ranges: None, strength: false };
    let before = tch::get_num_threads();
    let pooled = [1, 2, 4].map(|threads| {
        tch::set_num_threads(threads);
        attend(Qkv { q: &q, k: &k, v: None }, 0.125, MapKind::Probs, &how).unwrap().0.pooled
    });
    tch::set_num_threads(before);
    assert_eq!(pooled[0], pooled[1]);
    assert_eq!(pooled[0], pooled[2]);
}

#[test]
fn what_is_differentiated_or_repeated_keeps_its_map() {
    let shape = [1, 2, 10, 77, 8];
    let (q, k) = (heads(shape, 10), heads(shape, 77));
    let how = FusedPooling { lambda: 1.0, tokens: None, ranges: None, strength: false };
    let done = || attend(Qkv { q: &q, k: &k, v: None }, 1.0, MapKind::Logits, &how).is_some();
    assert!(tch::no_grad(done));
    assert!(!tch::with_grad(done));
    assert!(!tch::no_grad(|| to_repeat(done)));
}

#[test]
fn too_many_keys_are_left_to_others() {
    let _no_grad = tch::no_grad_guard();
    let q = Tensor::zeros([1, 1, 2, 4], (Kind::Float, Device::Cpu));
    let k = Tensor::zeros([1, 1, 513, 4], (Kind::Float, Device::Cpu));
    assert!(shim::attend_pooled(&q, &k, None, 1.0, shim::PooledMap::Scores, 1.0, None).is_none());
}
