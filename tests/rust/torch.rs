//! The door: panics, interruption, devices.

use std::time::Duration;

use discffusion::torch::{ahead, check_interrupt, faster, from_tch, guarded, parse_device, parse_dtype};
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
        let squares = ahead(0..count, |i| Ok(i * i), |square| Ok(square + 1)).unwrap();
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
    assert_eq!(ahead(0..50, Ok, work).unwrap_err().to_string(), "enough");
    assert_eq!(done.get(), 31);
    let prepare = |i: usize| if i == 3 { Err(Error::Image("broken".into())) } else { Ok(i) };
    assert_eq!(ahead(0..50, prepare, Ok).unwrap_err().to_string(), "broken");
    let prepare = |i: usize| if i == 3 { panic!("a bug") } else { Ok(i) };
    assert!(matches!(ahead(0..50, prepare, Ok), Err(Error::Internal(why)) if why.to_string() == "a bug"));
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
