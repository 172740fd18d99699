//! Self-checks: a kernel replaces libtorch's operators on a device only after it agreed with them there.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use crate::kernels::SWITCH;
use crate::runtime::{Lock, caught, warnings};
use crate::{Error, Result};

/// What is checked: a kernel's name, a device, a type, and everything else that its code depends on.
pub type Case = (&'static str, Device, Kind, Vec<i64>);

/// Whether the kernel may be used in this case. The first call runs `compare`, which runs the kernel and libtorch's
/// operators on a small input and returns pairs of tensors that should be equal. If they are not, or the kernel fails,
/// the case is rejected for good, with one warning.
pub fn passed(case: Case, compare: impl FnOnce() -> Result<Vec<(Tensor, Tensor)>>) -> bool {
    static KNOWN: Lock<Option<HashMap<Case, bool>>> = Lock::new(None);
    let known = || KNOWN.hold();
    if let Some(&passed) = known().get_or_insert_default().get(&case) {
        return passed;
    }
    let (name, device, kind, _) = case;
    // Errors of a device are often reported by the next operator, so the check includes reading the numbers.
    let outcome = caught(|| {
        let pairs = compare()?;
        let mut distances = pairs.iter().map(|(ours, plain)| (distance(ours, plain), tolerance(ours.kind())));
        Ok(distances.find(|(distance, tolerance)| distance > tolerance))
    });
    let why = match outcome {
        Ok(None) => None,
        Ok(Some((distance, _))) => Some(format!("it differs from libtorch's operators by {distance:.1e}, relative")),
        // The kernel is not the cause; the next call checks it again.
        Err(Error::OutOfMemory(_) | Error::Interrupted) => return false,
        Err(error) => Some(error.to_string()),
    };
    known().get_or_insert_default().insert(case, why.is_none());
    if let Some(why) = &why {
        warnings::push(format!(
            "the kernel {name} is not used on {device:?} in {kind:?}: {why}. Results do not depend on it, only speed; \
             {SWITCH}=0 switches all such kernels off"
        ));
    }
    why.is_none()
}

/// The largest difference, relative to the largest number of `plain`; infinite if a number is not finite or shapes
/// differ.
pub fn distance(ours: &Tensor, plain: &Tensor) -> f64 {
    if ours.size() != plain.size() {
        return f64::INFINITY;
    }
    let [ours, plain] = [ours, plain].map(|x| x.to_device(Device::Cpu).to_kind(Kind::Double));
    let largest = plain.abs().max().double_value(&[]);
    let distance = (&ours - &plain).abs().max().double_value(&[]) / largest;
    if distance.is_finite() { distance } else { f64::INFINITY }
}

/// The relative difference that rounding alone may cause: a few units in the last place of the type.
fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::Half => 4e-3,
        Kind::BFloat16 => 3e-2,
        _ => 1e-4,
    }
}

/// Test input with numbers of the magnitude of activations. It is computed without a random generator, so that no state
/// of libtorch changes.
pub fn numbers(shape: &[i64], kind: Kind, device: Device, salt: f64) -> Tensor {
    let at = Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, device));
    let waves = (&at * 1.7371 + salt).sin() + (&at * 0.377 + salt).cos() * 0.7 + 0.1;
    waves.view(shape).to_kind(kind)
}
