//! Joint attention against one softmax over all keys: outputs, maps, pooled maps, altered maps and gradients.

use discffusion::config::{MapKind, Pooling};
use discffusion::denoiser::{Capture, ImageTokens, PooledCapture, Recorder, TextTokens, joint_attention};
use discffusion::kernels::to_repeat;
use discffusion::pooling::{FusedPooling, PooledAttention, excess};
use tch::{Device, Kind, Tensor};

const KINDS: [MapKind; 4] = [MapKind::Probs, MapKind::Logits, MapKind::Cosine, MapKind::TextProbs];
/// Samples, image tokens, text tokens, heads, width of a head.
const SHAPES: [[i64; 5]; 3] = [[2, 37, 11, 3, 8], [1, 300, 333, 2, 64], [1, 1, 1, 1, 4]];

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let [a, b] = [a, b].map(|x| x.to_kind(Kind::Double));
    ((&a - &b).abs().max() / b.abs().max()).double_value(&[])
}

/// Queries, keys and values of the image and of the text, as leaves.
struct Tokens([Tensor; 6]);

impl Tokens {
    fn new([samples, n, m, heads, d]: [i64; 5]) -> Self {
        let random = |tokens| Tensor::randn([samples, tokens, heads, d], (Kind::Float, Device::Cpu)) * 1.5;
        Tokens([n, n, n, m, m, m].map(|tokens| random(tokens).set_requires_grad(true)))
    }

    fn image(&self) -> ImageTokens {
        let [q, k, v] = [0, 1, 2].map(|i| self.0[i].shallow_clone());
        ImageTokens { q, k, v }
    }

    fn text(&self, output: bool) -> TextTokens {
        let [q, k, v] = [3, 4, 5].map(|i| self.0[i].shallow_clone());
        TextTokens { q: output.then_some(q), k, v }
    }

    /// The map of a kind, and the outputs of image and text if `alter` replaces it, in float64.
    fn plain(&self, kind: MapKind, alter: &dyn Fn(&Tensor) -> Tensor) -> (Tensor, Tensor, Tensor) {
        let [q, k, v, text_q, text_k, text_v] =
            [0, 1, 2, 3, 4, 5].map(|i| self.0[i].to_kind(Kind::Double).transpose(1, 2));
        let scale = (q.size()[3] as f64).powf(-0.5);
        let n = q.size()[2];
        let products = |q: &Tensor, k: &Tensor| q.matmul(&k.transpose(-1, -2));
        let unit = |x: &Tensor| x / x.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true);
        let (scores, text_scores) = (products(&q, &k) * scale, products(&q, &text_k) * scale);
        let joined = |text_scores: &Tensor| Tensor::cat(&[&scores, text_scores], -1).softmax(-1, None);
        let block = |probs: &Tensor| probs.narrow(-1, n, probs.size()[3] - n);
        let own = joined(&text_scores);
        let map = match kind {
            MapKind::Logits => text_scores.shallow_clone(),
            MapKind::Cosine => products(&unit(&q), &unit(&text_k)),
            MapKind::Probs => block(&own),
            MapKind::TextProbs => text_scores.softmax(-1, None),
        };
        let map = alter(&map);
        let block = match kind {
            MapKind::Logits => block(&joined(&map)),
            MapKind::Cosine => block(&own),
            MapKind::Probs => map.shallow_clone(),
            MapKind::TextProbs => &map * block(&own).sum_dim_intlist(-1, true, None),
        };
        let image = if kind == MapKind::Logits { joined(&map) } else { own };
        let merge = |x: Tensor| x.transpose(1, 2).flatten(2, 3);
        let image = merge(image.narrow(-1, 0, n).matmul(&v) + block.matmul(&text_v));
        let all = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 2);
        let text = (products(&text_q, &all(&k, &text_k)) * scale).softmax(-1, None).matmul(&all(&v, &text_v));
        (map, image, merge(text))
    }
}

fn same(map: &Tensor) -> Tensor {
    map.shallow_clone()
}

#[test]
fn maps_and_outputs_are_those_of_one_softmax() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(1);
    for shape in SHAPES {
        let tokens = Tokens::new(shape);
        for kind in KINDS {
            let (map, image, text) = tokens.plain(kind, &same);
            for wanted in [true, false] {
                let keep = |_: usize, map: &Tensor| map.shallow_clone();
                let layers = [wanted];
                let capture = Capture { prediction: true, ..Capture::maps(&layers, kind, &keep) };
                let mut recorder = Recorder::new(&capture);
                let found = joint_attention(&tokens.image(), &tokens.text(true), 0, &mut recorder).unwrap();
                assert!(relative(&found.0, &image) < 2e-6, "{shape:?} {kind:?}");
                assert!(relative(&found.1.unwrap(), &text) < 2e-6, "{shape:?} {kind:?}");
                assert_eq!(recorder.recorded().len(), usize::from(wanted));
                if let Some((_, seen)) = recorder.recorded().first() {
                    assert!(relative(seen, &map) < 2e-6, "{shape:?} {kind:?}");
                }
                let without = joint_attention(&tokens.image(), &tokens.text(false), 0, &mut Recorder::new(&capture));
                let (alone, none) = without.unwrap();
                assert!(none.is_none() && relative(&alone, &image) < 2e-6, "{shape:?} {kind:?}");
            }
            let keep = |_: usize, map: &Tensor| map.shallow_clone();
            let capture = Capture::maps(&[true], kind, &keep);
            let mut recorder = Recorder::new(&capture);
            assert!(
                joint_attention(&tokens.image(), &tokens.text(true), 0, &mut recorder).is_none(),
                "nothing is left"
            );
            assert!(relative(&recorder.recorded()[0].1, &map) < 2e-6);
        }
    }
}

#[test]
fn pooled_maps_are_those_of_the_map() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(2);
    for shape in SHAPES {
        let tokens = Tokens::new(shape);
        let own: Vec<_> = (0..shape[0] as usize).map(|sample| sample..(sample + 5).min(shape[2] as usize)).collect();
        for (kind, lambda) in KINDS.into_iter().flat_map(|kind| [(kind, 1.0), (kind, 50.0)]) {
            let (map, image, text) = tokens.plain(kind, &same);
            for columns in [None, Some(own.as_slice())] {
                let expected: Vec<Tensor> = (0..shape[0])
                    .map(|sample| {
                        let map = map.narrow(0, sample, 1);
                        excess(
                            &columns.map_or(map.shallow_clone(), |own| {
                                let own = &own[sample as usize];
                                map.narrow(-1, own.start as i64, own.len() as i64)
                            }),
                            Pooling::Lse,
                            lambda,
                        )
                    })
                    .collect();
                let formed = |_: usize, _: &Tensor| panic!("the map is not formed");
                let keep = |_: usize, pooled: &PooledAttention| pooled.pooled.shallow_clone();
                let how = FusedPooling { lambda, tokens: columns, ranges: None, strength: false };
                for prediction in [true, false] {
                    let pooled = Some(PooledCapture { how, keep: &keep });
                    let capture = Capture { pooled, prediction, ..Capture::maps(&[true], kind, &formed) };
                    let mut recorder = Recorder::new(&capture);
                    let found = joint_attention(&tokens.image(), &tokens.text(true), 0, &mut recorder);
                    let error = relative(&recorder.recorded()[0].1, &Tensor::cat(&expected, 0));
                    assert!(error < 2e-6, "{shape:?} {kind:?} λ = {lambda} {columns:?}: {error}");
                    assert_eq!(found.is_some(), prediction);
                    if let Some((of_image, of_text)) = found {
                        assert!(relative(&of_image, &image) < 2e-6 && relative(&of_text.unwrap(), &text) < 2e-6);
                    }
                }
            }
        }
    }
}

#[test]
fn the_network_goes_on_with_what_replaces_a_map() {
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(3);
    let tokens = Tokens::new(SHAPES[0]);
    for kind in KINDS {
        let half = |map: &Tensor| map * 0.5 + 0.01;
        let (map, image, text) = tokens.plain(kind, &half);
        let (_, as_it_was, _) = tokens.plain(kind, &same);
        let keep = |_: usize, map: &Tensor| map.shallow_clone();
        let alter = |_: usize, map: Tensor| half(&map);
        let capture = Capture { alter: Some(&alter), prediction: true, ..Capture::maps(&[true], kind, &keep) };
        let mut recorder = Recorder::new(&capture);
        let found = joint_attention(&tokens.image(), &tokens.text(true), 0, &mut recorder).unwrap();
        assert!(relative(&recorder.recorded()[0].1, &map) < 2e-6, "{kind:?}");
        assert!(relative(&found.0, &image) < 2e-6 && relative(&found.1.unwrap(), &text) < 2e-6, "{kind:?}");
        assert_eq!(relative(&image, &as_it_was) > 1e-3, kind != MapKind::Cosine);
    }
}

#[test]
fn gradients_are_those_of_one_softmax() {
    tch::manual_seed(4);
    for shape in [SHAPES[0], SHAPES[1]] {
        for kind in KINDS {
            let tokens = Tokens::new(shape);
            let [of_map, of_image, of_text] = {
                let (map, image, text) = tch::no_grad(|| tokens.plain(kind, &same));
                [map, image, text].map(|x| Tensor::randn(x.size(), (Kind::Float, Device::Cpu)))
            };
            let objective = |map: &Tensor, image: &Tensor, text: &Tensor| {
                let term = |x: &Tensor, weights: &Tensor| (x * weights).sum(Kind::Double);
                term(map, &of_map) + term(image, &of_image) + term(text, &of_text)
            };
            let gradients = |objective: Tensor| -> Vec<Tensor> {
                objective.backward();
                tokens.0.iter().map(|leaf| leaf.grad().copy()).collect()
            };
            let (map, image, text) = tokens.plain(kind, &same);
            let expected = gradients(objective(&map, &image, &text));
            tokens.0.iter().for_each(|leaf| leaf.shallow_clone().zero_grad());
            let keep = |_: usize, map: &Tensor| map.shallow_clone();
            let capture = Capture { prediction: true, ..Capture::maps(&[true], kind, &keep) };
            let mut recorder = Recorder::new(&capture);
            let (image, text) = joint_attention(&tokens.image(), &tokens.text(true), 0, &mut recorder).unwrap();
            let found = gradients(objective(&recorder.recorded()[0].1, &image, &text.unwrap()));
            for (found, expected) in found.iter().zip(&expected) {
                let error = relative(found, expected);
                assert!(error < 1e-5, "{shape:?} {kind:?}: {error}");
            }
        }
    }
}

/// What is repeated with a graph gives the same bits.
#[test]
fn a_repeated_pass_is_the_same() {
    tch::manual_seed(5);
    let tokens = Tokens::new(SHAPES[0]);
    for kind in KINDS {
        let run = || {
            let keep = |_: usize, map: &Tensor| map.shallow_clone();
            let capture = Capture { prediction: true, ..Capture::maps(&[true], kind, &keep) };
            let mut recorder = Recorder::new(&capture);
            let (image, _) = joint_attention(&tokens.image(), &tokens.text(true), 0, &mut recorder).unwrap();
            (recorder.recorded()[0].1.detach(), image.detach())
        };
        assert_eq!(tch::no_grad(|| to_repeat(run)), tch::with_grad(run), "{kind:?}");
    }
}
