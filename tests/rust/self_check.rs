//! Kernels on trial: one that is wrong, or fails, or is not there, never gives a result to anybody.

use std::cell::Cell;
use std::sync::Mutex;

use discffusion::kernels::self_check::{numbers, passed};
use discffusion::runtime::warnings;
use discffusion::{Error, Result};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;

fn pair(by: f64, kind: Kind) -> (Tensor, Tensor) {
    let plain = numbers(&[5, 7], Kind::Float, CPU, 0.5);
    ((&plain * (1.0 + by)).to_kind(kind), plain)
}

/// The notes with these words so far, of whatever test: they are taken once, by whoever comes first.
pub fn on_progress(words: &str) -> Vec<String> {
    static TAKEN: Mutex<Vec<String>> = Mutex::new(vec![]);
    let mut taken = TAKEN.lock().unwrap();
    taken.extend(warnings::take());
    taken.iter().filter(|note| note.contains(words)).cloned().collect()
}

#[test]
fn what_agrees_passes_and_is_tried_once() {
    let times = Cell::new(0);
    for _ in 0..3 {
        let compare = || {
            times.set(times.get() + 1);
            Ok(vec![pair(1e-6, Kind::Float), pair(1e-3, Kind::Half), pair(5e-3, Kind::BFloat16)])
        };
        assert!(passed(("agrees", CPU, Kind::Float, vec![1]), compare));
    }
    assert_eq!(times.get(), 1);
    assert!(!passed(("agrees", CPU, Kind::Float, vec![2]), || Ok(vec![pair(0.1, Kind::Float)])), "another case");
}

#[test]
fn what_is_wrong_or_fails_is_left_aside_and_told() {
    type Compare = fn() -> Result<Vec<(Tensor, Tensor)>>;
    let cases: [(&str, Compare); 5] = [
        ("differs", || Ok(vec![pair(1e-6, Kind::Float), pair(1e-3, Kind::Float)])),
        ("has another shape", || {
            Ok(vec![(Tensor::zeros([2], (Kind::Float, CPU)), Tensor::zeros([3], (Kind::Float, CPU)))])
        }),
        ("is not a number", || Ok(vec![pair(f64::NAN, Kind::Float)])),
        ("throws", || {
            Ok(vec![(
                numbers(&[2, 3], Kind::Float, CPU, 0.0).matmul(&numbers(&[2, 3], Kind::Float, CPU, 0.0)),
                Tensor::new(),
            )])
        }),
        ("is missing", || Err(Error::Internal(anyhow::anyhow!("there is no compiler")))),
    ];
    for (name, compare) in cases {
        assert!(!passed((name, CPU, Kind::Float, vec![]), compare), "{name}");
        assert!(!passed((name, CPU, Kind::Float, vec![]), || panic!("not tried again")), "{name}");
    }
    // Each text is on_progress once.
    let notes = on_progress("the kernel ");
    for (name, _) in cases {
        let on_progress = notes.iter().filter(|note| note.contains(&format!("the kernel {name} "))).count();
        assert_eq!(on_progress, 1, "{name}: {notes:?}");
    }
    assert!(notes.iter().all(|note| note.contains("DISCFFUSION_FUSED=0")));
}

#[test]
fn where_memory_is_short_it_is_tried_again() {
    let case = || ("is large", CPU, Kind::Float, vec![]);
    assert!(!passed(case(), || Err(Error::OutOfMemory("no room".into()))));
    assert!(passed(case(), || Ok(vec![pair(0.0, Kind::Float)])));
}
