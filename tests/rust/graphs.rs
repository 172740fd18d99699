//! Recorded work gives what the work itself gives; by the way that needs no device.

use std::cell::Cell;
use std::path::Path;

use discffusion::config::{Heads, Layers, MapKind, Method, ScoreConfig, Times, TokenSet};
use discffusion::encode::image::{Image, Rgb};
use discffusion::kernels::graph_cache::{GraphCache, Made, Mode};
use discffusion::model::Model;
use discffusion::score::Request;
use discffusion::{Error, Result};
use tch::{Device, Kind, Tensor};

use crate::self_check::on_progress;

fn numbers(values: &[f64]) -> Tensor {
    Tensor::from_slice(values)
}

/// `2a + b`, counting how often it is done.
fn doubled(times: &Cell<usize>) -> impl Fn(&[Tensor]) -> Result<Made> {
    |x| {
        times.set(times.get() + 1);
        Ok(Made { tensors: vec![&x[0] * 2.0 + &x[1]], repeatable: true })
    }
}

fn run(graphs: &GraphCache, a: f64, work: &dyn Fn(&[Tensor]) -> Result<Made>) -> Result<f64> {
    let made = graphs.run("texts", &[numbers(&[a, 1.0]), numbers(&[5.0, 6.0])], work)?;
    Ok(made[0].double_value(&[0]))
}

#[test]
fn work_is_recorded_when_it_comes_again() {
    let (graphs, times) = (GraphCache::new(Mode::Eager), Cell::new(0));
    let work = doubled(&times);
    assert_eq!(run(&graphs, 1.0, &work).unwrap(), 7.0);
    assert_eq!((times.get(), graphs.recordings()), (1, 0));
    // Once itself, once to be recorded, once by the record, which is compared.
    assert_eq!(run(&graphs, 2.0, &work).unwrap(), 9.0);
    assert_eq!((times.get(), graphs.recordings()), (4, 1));
    for a in [3.0, 4.0, 5.0, 6.0] {
        assert_eq!(run(&graphs, a, &work).unwrap(), 2.0 * a + 5.0);
    }
    // Two more comparisons, then it is trusted.
    assert_eq!(times.get(), 4 + 2 + 4);
    let shapes = graphs.run("texts", &[numbers(&[1.0]), numbers(&[5.0])], &work).unwrap();
    assert_eq!((shapes[0].size(), graphs.recordings()), (vec![1], 1));
    let images = graphs.run("images", &[numbers(&[1.0, 1.0]), numbers(&[5.0, 6.0])], &work).unwrap();
    assert_eq!((images[0].double_value(&[1]), graphs.recordings()), (8.0, 1));
}

#[test]
fn what_comes_back_is_nobody_elses() {
    let (graphs, times) = (GraphCache::new(Mode::Eager), Cell::new(0));
    let work = doubled(&times);
    let found: Vec<Tensor> = (0..8)
        .map(|a| graphs.run("texts", &[numbers(&[f64::from(a)]), numbers(&[5.0])], &work).unwrap().pop().unwrap())
        .collect();
    let values: Vec<f64> = found.iter().map(|x| x.double_value(&[0])).collect();
    assert_eq!(values, (0..8).map(|a| 2.0 * f64::from(a) + 5.0).collect::<Vec<_>>());
}

#[test]
fn a_record_that_gives_other_numbers_is_not_used() {
    let (graphs, times) = (GraphCache::new(Mode::Eager), Cell::new(0));
    // The third time is the record's.
    let work = |x: &[Tensor]| {
        times.set(times.get() + 1);
        let wrong = if times.get() == 4 { 1e-3 } else { 0.0 };
        Ok(Made { tensors: vec![&x[0] * (2.0 + wrong)], repeatable: true })
    };
    for a in [1.0, 2.0, 3.0, 4.0] {
        assert_eq!(run(&graphs, a, &work).unwrap(), 2.0 * a);
    }
    assert_eq!((times.get(), graphs.recordings()), (1 + 3 + 2, 0));
    assert!(on_progress("recorded graph").iter().any(|note| note.contains("DISCFFUSION_GRAPHS=1")));
}

#[test]
fn a_record_is_watched_for_a_while() {
    let (graphs, times) = (GraphCache::new(Mode::Eager), Cell::new(0));
    let work = |x: &[Tensor]| {
        times.set(times.get() + 1);
        // 1, then 3 to record, then a record's and a comparison's: the record's.
        let wrong = if times.get() == 5 { f64::NAN } else { 0.0 };
        Ok(Made { tensors: vec![&x[0] * 2.0 + wrong], repeatable: true })
    };
    for a in [1.0, 2.0, 3.0] {
        assert_eq!(run(&graphs, a, &work).unwrap(), 2.0 * a);
    }
    assert_eq!(graphs.recordings(), 0);
}

#[test]
fn work_that_reads_something_else_is_not_recorded() {
    let (graphs, times) = (GraphCache::new(Mode::Eager), Cell::new(0));
    let work = |x: &[Tensor]| {
        times.set(times.get() + 1);
        Ok(Made { tensors: vec![&x[0] + 1.0], repeatable: false })
    };
    for a in [1.0, 2.0, 3.0] {
        assert_eq!(run(&graphs, a, &work).unwrap(), a + 1.0);
    }
    assert_eq!((times.get(), graphs.recordings()), (3, 0));
}

#[test]
fn errors_are_those_of_the_work() {
    let graphs = GraphCache::new(Mode::Eager);
    let times = Cell::new(0);
    let work = |x: &[Tensor]| {
        times.set(times.get() + 1);
        match times.get() {
            2 | 6 => Err(Error::Interrupted),
            7 => Err(Error::Internal(anyhow::anyhow!("a record's own trouble"))),
            _ => Ok(Made { tensors: vec![x[0].shallow_clone()], repeatable: true }),
        }
    };
    assert!(run(&graphs, 1.0, &work).is_ok());
    assert!(matches!(run(&graphs, 1.0, &work), Err(Error::Interrupted)));
    // That was no fault of the work, which is tried again.
    assert!(run(&graphs, 1.0, &work).is_ok());
    assert_eq!((times.get(), graphs.recordings()), (5, 1));
    assert!(matches!(run(&graphs, 1.0, &work), Err(Error::Interrupted)));
    assert_eq!(graphs.recordings(), 1);
    // The record's own trouble is not the caller's while there are comparisons.
    assert_eq!(run(&graphs, 3.0, &work).unwrap(), 3.0);
    assert_eq!(graphs.recordings(), 0);
    // A panic is what libtorch's errors are inside.
    let graphs = GraphCache::new(Mode::Eager);
    let panics =
        |_: &[Tensor]| -> Result<Made> { Ok(Made { tensors: vec![numbers(&[1.0]).view([2])], repeatable: true }) };
    graphs.run("texts", &[], &doubled_nothing).unwrap();
    assert!(graphs.run("texts", &[], &panics).is_err());
}

fn doubled_nothing(_: &[Tensor]) -> Result<Made> {
    Ok(Made { tensors: vec![], repeatable: true })
}

#[test]
fn there_are_so_many_records_and_none_after_memory_ran_out() {
    let (graphs, times) = (GraphCache::new(Mode::Eager), Cell::new(0));
    let work = doubled(&times);
    let of_length = |n: i64| {
        let x = Tensor::ones([n], (Kind::Float, Device::Cpu));
        let made = graphs.run("texts", &[x.shallow_clone(), x], &work).unwrap();
        assert_eq!(made[0].sum(Kind::Float).double_value(&[]), 3.0 * n as f64);
    };
    for _ in 0..3 {
        (1..=100).for_each(of_length);
    }
    (90..=100).for_each(of_length);
    (90..=100).for_each(of_length);
    assert_eq!(graphs.recordings(), 8);
    graphs.clear();
    assert_eq!(graphs.recordings(), 0);
    for _ in 0..3 {
        of_length(5);
    }
    assert_eq!(graphs.recordings(), 0);
}

#[test]
fn who_comes_while_a_record_is_in_use_does_the_work() {
    let (graphs, times) = (GraphCache::new(Mode::Eager), Cell::new(0));
    let inner = doubled(&times);
    let nested = |x: &[Tensor]| {
        let made = graphs.run("texts", x, &inner)?;
        Ok(Made { tensors: made, repeatable: true })
    };
    for a in [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] {
        assert_eq!(run(&graphs, a, &nested).unwrap(), 2.0 * a + 5.0);
    }
}

fn image(salt: usize) -> Image {
    let data = (0..64 * 64 * 3).map(|i| ((i * (7 + salt) / 11 + i / 192) % 256) as u8).collect();
    Rgb { width: 64, height: 64, data }.into()
}

/// All ways of scoring give the same with and without recordings, whatever images, texts and noise follow each other.
#[test]
fn scores_are_the_same_with_recordings() {
    let _no_grad = tch::no_grad_guard();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/discffusion/pocket/model");
    let plain = Model::load(&folder, None, Device::Cpu, Kind::Float).unwrap();
    let times = || Times::Timesteps(vec![300.0, 600.0]);
    let base = ScoreConfig { times: times(), layers: Layers::All, ..ScoreConfig::default() };
    let configs = [
        base.clone(),
        ScoreConfig { map: MapKind::Logits, lambda: 1.0, tokens: TokenSet::Content, ..base.clone() },
        ScoreConfig { map: MapKind::Probs, heads: Heads::Attributed, ..base.clone() },
        ScoreConfig { heads: Heads::Subset(vec![0]), ..base.clone() },
        ScoreConfig { method: Method::Denoising, ..base.clone() },
        ScoreConfig { method: Method::Combined, batch_size: Some(3), ..base.clone() },
    ];
    let images = [image(0), image(1), image(2)];
    let texts = ["a red circle", "a blue square left of it", "two dogs", "a green star above a red circle"];
    for config in &configs {
        let recorded = plain.clone().with_graphs(Some(GraphCache::new(Mode::Eager)));
        for round in 0..7 {
            let image = &images[round % 3..=round % 3];
            let text = &texts[round % 4..=round % 4];
            let config = ScoreConfig { seed: round as u64, ..config.clone() };
            let request = Request { images: image, texts: text, pairs: &[(0, 0)], noise: None };
            let [expected, found] =
                [&plain, &recorded].map(|model| model.score_pairs(&request, &config, |_| Ok(())).unwrap());
            assert_close(&found, &expected, &config);
        }
        let whole = Request { images: &images, texts: &texts, pairs: &[(0, 1), (2, 3), (1, 0), (0, 2)], noise: None };
        for _ in 0..3 {
            let [expected, found] =
                [&plain, &recorded].map(|model| model.score_pairs(&whole, config, |_| Ok(())).unwrap());
            assert_close(&found, &expected, config);
        }
        let recordings = recorded.graphs().unwrap().recordings();
        assert!(recordings >= 3, "images, texts and evaluations are recorded, not {recordings} things, for {config:?}");
    }
}

fn assert_close(found: &[Vec<f64>], expected: &[Vec<f64>], config: &ScoreConfig) {
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        let near = (found - expected).abs() <= 1e-6 * expected.abs().max(1.0);
        assert!(near, "{found} for {expected} with {config:?}");
    }
}
