//! The kernels that tch does not bind, against those that it does.

use discffusion::kernels::shim;
use tch::{Device, Kind, Tensor};

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    ((a - b).norm() / b.norm()).double_value(&[])
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

#[test]
fn a_packed_convolution_is_the_plain_one() {
    assert!(shim::has_onednn());
    tch::manual_seed(1);
    for (inputs, outputs, kernel, stride, side) in
        [(3, 5, 3, 1, 7), (16, 32, 3, 1, 8), (64, 64, 1, 1, 9), (32, 48, 3, 2, 10), (4, 320, 3, 1, 16)]
    {
        let (weight, bias) = (random(&[outputs, inputs, kernel, kernel]), random(&[outputs]));
        let padding = kernel / 2;
        let packed = shim::pack_conv2d(&weight, stride, padding, &[1, inputs, side, side]);
        // The size that it was packed for, another batch, another size, and an input that is not contiguous.
        let x = random(&[2, inputs, side + 3, side + 1]);
        for x in [random(&[1, inputs, side, side]), random(&[3, inputs, side, side]), x.transpose(2, 3), x] {
            let plain = x.conv2d(&weight, Some(&bias), [stride; 2], [padding; 2], [1, 1], 1);
            let ours = shim::conv2d(&x, &packed, &bias, stride, padding);
            assert!(relative(&ours, &plain) < 1e-6, "{inputs} {outputs} {kernel} {stride}");
            assert!(ours.f_contiguous().is_ok());
        }
    }
}

#[test]
fn a_packed_linear_layer_is_the_plain_one() {
    tch::manual_seed(2);
    for (inputs, outputs, rows) in [(1, 1, 1), (7, 5, 3), (320, 64, 77), (64, 2560, 256)] {
        let (weight, bias) = (random(&[outputs, inputs]), random(&[outputs]));
        let packed = shim::pack_linear(&weight, rows);
        for x in [random(&[rows, inputs]), random(&[2, 3, inputs]), random(&[2, inputs, 5]).transpose(1, 2)] {
            for bias in [Some(&bias), None] {
                let plain = x.linear(&weight, bias);
                assert!(relative(&shim::linear(&x, &packed, bias), &plain) < 1e-6, "{inputs} {outputs} {rows}");
            }
        }
    }
}

#[test]
fn what_libtorch_throws_is_a_panic_that_says_what() {
    let weight = shim::pack_linear(&random(&[4, 8]), 2);
    let caught = discffusion::runtime::guarded(|| false, || Ok(shim::linear(&random(&[2, 9]), &weight, None)));
    assert!(caught.is_err());
}

#[test]
fn fused_attention_gives_the_sums_of_its_softmax() {
    tch::manual_seed(3);
    for (n, m, d) in [(1, 1, 8), (40, 77, 16), (257, 77, 64), (5, 3, 7)] {
        let [q, k, v] = [n, m, m].map(|tokens| random(&[2, 3, tokens, d]));
        let (output, lse) = shim::attend_lse(&q, &k, &v).expect("the CPU's kernel has them");
        let scores = (&q * (d as f64).powf(-0.5)).matmul(&k.transpose(-1, -2));
        assert!(relative(&lse, &scores.logsumexp(-1, false)) < 1e-6, "{n} {m} {d}");
        assert!(relative(&output, &scores.softmax(-1, None).matmul(&v)) < 1e-6, "{n} {m} {d}");
    }
}

#[test]
fn without_a_device_there_is_no_stream() {
    if !tch::Cuda::is_available() {
        assert!(shim::cuda_stream(0).is_none());
    }
}
