//! The door: panics, interruption, devices.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use discffusion::device::{faster, parse_device, parse_dtype};
use discffusion::runtime::{Lock, check_interrupt, from_tch, gradients, guarded, outside, prefetch};
use discffusion::{Error, Result};
use tch::{Device, Kind, Tensor};

#[test]
fn a_libtorch_exception_becomes_an_error_of_one_line() {
    let outcome: Result<Tensor> = guarded(
        || false,
        || {
            let a = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
            Ok(a.matmul(&a))
        },
    );
    let message = outcome.unwrap_err().to_string();
    assert!(message.starts_with("internal error") && message.contains("mat1 and mat2"), "{message}");
    assert_eq!(message.lines().count(), 1);
}

#[test]
fn an_impossible_allocation_is_out_of_memory() {
    let outcome: Result<Tensor> = guarded(|| false, || Ok(Tensor::ones([1 << 46], (Kind::Float, Device::Cpu))));
    assert_eq!(outcome.unwrap_err().kind(), "OutOfMemoryError");
}

#[test]
fn a_kernel_without_room_is_out_of_memory_and_one_that_does_not_exist_is_not() {
    let kind = |text: &str| from_tch(&tch::TchError::Torch(text.into())).kind();
    assert_eq!(kind("could not create a primitive"), "OutOfMemoryError");
    assert_eq!(kind("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity"), "OutOfMemoryError");
    assert_ne!(kind("could not create a primitive descriptor for a convolution forward primitive"), "OutOfMemoryError");
}

#[test]
fn what_libtorch_says_is_one_sentence() {
    let of = |work: fn() -> Tensor| guarded(|| false, || Ok(work())).unwrap_err().to_string();
    let memory = of(|| Tensor::ones([1 << 46], (Kind::Float, Device::Cpu)));
    let asked = "you tried to allocate 281474976710656 bytes; use a smaller batch_size or resolution";
    assert!(memory.ends_with(asked) && memory.contains("DefaultCPUAllocator"), "{memory}");
    let index = of(|| {
        let table = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
        table.index_select(0, &Tensor::from_slice(&[7i64]))
    });
    assert!(index.contains("index out of range in self"), "{index}");
    let quoted = of(|| Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).view([7, 7]));
    assert!(quoted.contains("shape '[7, 7]' is invalid for input of size 6"), "{quoted}");
    for message in [memory, index, quoted] {
        assert!(message.len() < 300 && message.lines().count() == 1, "{message}");
        for never in ["frame #", "unwrap()", "Torch(", ".cpp", "\\n", "Exception raised"] {
            assert!(!message.contains(never), "{never} in {message}");
        }
    }
    let cuda = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.00 GiB \
                is free. Process 7 has 78.10 GiB memory in use. See documentation for Memory Management\nException";
    let on_progress = from_tch(&tch::TchError::Torch(cuda.into())).to_string();
    assert!(
        on_progress.ends_with("CUDA out of memory. Tried to allocate 2.00 GiB; use a smaller batch_size or resolution")
    );
}

#[test]
fn a_panic_of_our_own_is_a_typed_error() {
    let outcome: Result<()> = guarded(|| false, || panic!("a bug"));
    assert!(matches!(outcome, Err(Error::Internal(why)) if why.to_string() == "a bug"));
}

#[test]
fn interruption_is_noticed_within_a_poll() {
    let outcome: Result<()> = guarded(
        || true,
        || loop {
            check_interrupt()?;
        },
    );
    assert!(matches!(outcome, Err(Error::Interrupted)));
    assert!(check_interrupt().is_ok(), "outside the door nobody asks");
}

#[test]
fn no_graph_is_built_inside() {
    let tracked = guarded(
        || false,
        || {
            let a = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            Ok((a * 2.0).requires_grad())
        },
    );
    assert!(!tracked.unwrap());
}

#[test]
fn a_panic_leaves_the_thread_as_it_was() {
    let outcome: Result<()> = guarded(|| false, || panic!("a bug"));
    assert!(outcome.is_err());
    let a = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    assert!((a * 2.0).requires_grad(), "the caller's gradients are still on");
}

#[test]
fn the_door_can_be_entered_from_inside() {
    let outcome = guarded(
        || true,
        || {
            guarded(|| false, check_interrupt)?;
            check_interrupt()
        },
    );
    assert!(matches!(outcome, Err(Error::Interrupted)), "the outer caller is asked again");
}

#[test]
fn a_gradient_without_a_graph_is_refused() {
    let leaf = || Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let x = leaf();
    let found = gradients(&(&x * &x).sum(Kind::Float), &[&x]).unwrap();
    assert_eq!(Vec::<f32>::try_from(&found[0]).unwrap(), [2.0, 2.0]);
    let x = leaf();
    let lost = tch::no_grad(|| (&x * &x).sum(Kind::Float));
    let message = gradients(&lost, &[&x]).unwrap_err().to_string();
    assert!(message.contains("without a graph"), "{message}");
}

#[test]
fn what_is_called_outside_has_the_callers_state() {
    let graph = || (Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true) * 2.0).requires_grad();
    let kept = guarded(
        || false,
        || {
            let within = tch::with_grad(|| (graph(), outside(graph), graph()));
            let inner = outside(|| guarded(|| false, || Ok((graph(), outside(graph)))))?;
            Ok((graph(), within, inner, outside(tch::no_grad_guard), outside(graph), graph()))
        },
    );
    let (inside, within, inner, guard, changed, again) = kept.unwrap();
    assert_eq!((inside, within, inner), (false, (true, true, true), (false, true)));
    assert_eq!((changed, again), (false, false), "the caller's function has changed the caller's state");
    assert!(!graph(), "which holds afterwards");
    drop(guard);
    assert!(graph());
    assert!(outside(graph));
}

#[test]
fn devices_and_types_by_name() {
    assert_eq!(parse_device("cpu").unwrap(), Device::Cpu);
    for name in ["tpu", "cuda:x", "cuda:99", ""] {
        assert_eq!(parse_device(name).unwrap_err().kind(), "DeviceError", "{name}");
    }
    assert_eq!(parse_dtype("auto", Device::Cpu).unwrap(), Kind::Float);
    assert_eq!(parse_dtype("auto", Device::Cuda(0)).unwrap(), Kind::Half);
    assert_eq!(parse_dtype("bfloat16", Device::Cpu).unwrap(), Kind::BFloat16);
    for (name, device) in [("float16", Device::Cpu), ("int8", Device::Cpu), ("float64", Device::Cuda(0))] {
        assert_eq!(parse_dtype(name, device).unwrap_err().kind(), "DeviceError", "{name}");
    }
}

#[test]
fn what_is_prepared_ahead_comes_in_order() {
    for count in [0, 1, 2, 50] {
        let squares = prefetch(0..count, |i| Ok(i * i), |square| Ok(square + 1)).unwrap();
        assert_eq!(squares, (0..count).map(|i| i * i + 1).collect::<Vec<usize>>());
    }
}

#[test]
fn an_error_on_either_side_ends_the_work_ahead() {
    let done = std::cell::Cell::new(0);
    let work = |i: usize| {
        done.set(done.get() + 1);
        if i == 30 { Err(Error::Config("enough".into())) } else { Ok(i) }
    };
    assert_eq!(prefetch(0..50, Ok, work).unwrap_err().to_string(), "enough");
    assert_eq!(done.get(), 31);
    let prepare = |i: usize| if i == 3 { Err(Error::Image("broken".into())) } else { Ok(i) };
    assert_eq!(prefetch(0..50, prepare, Ok).unwrap_err().to_string(), "broken");
    let prepare = |i: usize| if i == 3 { panic!("a bug") } else { Ok(i) };
    assert!(matches!(prefetch(0..50, prepare, Ok), Err(Error::Internal(why)) if why.to_string() == "a bug"));
}

#[test]
fn work_ahead_is_interrupted_while_it_is_prepared() {
    let prepared = AtomicUsize::new(0);
    let asked = Instant::now();
    // Five seconds of preparing for one piece of work, as of many large images.
    let prepare = |item: usize| {
        for _ in 0..100 {
            check_interrupt()?;
            std::thread::sleep(Duration::from_millis(50));
            prepared.fetch_add(1, Ordering::Relaxed);
        }
        Ok(item)
    };
    let outcome = guarded(move || asked.elapsed() > Duration::from_millis(300), || prefetch(0..3, prepare, Ok));
    assert!(matches!(outcome, Err(Error::Interrupted)));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(prepared.load(Ordering::Relaxed) < 15, "the thread stops too");
}

#[test]
#[cfg(debug_assertions)]
fn no_lock_is_held_where_python_code_may_run() {
    let lock = Lock::new(1);
    let held = guarded(
        || false,
        || {
            let _held = lock.hold();
            check_interrupt()
        },
    );
    assert!(held.unwrap_err().to_string().contains("a lock is held"));
    assert!(guarded(|| false, check_interrupt).is_ok(), "it was let go of");
}

#[test]
fn half_precision_on_the_cpu_has_to_pay() {
    let given = |single: Option<u64>, half: Option<u64>| {
        faster(|kind| if kind == Kind::Float { single } else { half }.map(Duration::from_millis))
    };
    assert_eq!(given(Some(100), Some(80)), Kind::BFloat16);
    assert_eq!(given(Some(100), Some(81)), Kind::Float);
    assert_eq!(given(Some(100), None), Kind::Float);
    let found = parse_dtype("fastest", Device::Cpu).unwrap();
    assert!(matches!(found, Kind::Float | Kind::BFloat16));
    assert_eq!(parse_dtype("fastest", Device::Cpu).unwrap(), found);
}
