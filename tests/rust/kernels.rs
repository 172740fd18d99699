//! CUDA kernels as far as they can be tried without a device: NVIDIA's compiler takes them, for every type.

use discffusion::torch::cuda::nvrtc::{architecture, compile};
use discffusion::torch::cuda::programs::{Program, source, takes};
use discffusion::torch::cuda::{Grid, launch};
use tch::{Device, Kind};

/// NVRTC comes with torch's CUDA builds; where torch is one for the CPU, there is nothing to try.
fn has_nvrtc() -> bool {
    match compile("", "sm_90") {
        Ok(_) => true,
        Err(why) if why.contains("cannot be opened") => {
            eprintln!("not tried: {why}");
            false
        }
        Err(why) => panic!("{why}"),
    }
}

#[test]
fn every_kernel_compiles_for_every_type() {
    if !has_nvrtc() {
        return;
    }
    let programs = [Program::Geglu, Program::GroupNorm, Program::Pool { values: 3 }];
    for program in programs {
        for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
            for capability in [(8, 0), (9, 0)] {
                let binary = compile(&source(program, kind), &architecture(capability))
                    .unwrap_or_else(|why| panic!("{program:?} {kind:?} {capability:?}: {why}"));
                assert!(binary.starts_with(b"\x7fELF"), "a binary, not text");
            }
        }
    }
}

#[test]
fn a_source_that_does_not_compile_is_an_error_in_the_compilers_words() {
    if has_nvrtc() {
        let why = compile("extern \"C\" __global__ void f() { nonsense; }", "sm_90").unwrap_err();
        assert!(why.contains("nonsense"), "{why}");
        assert!(compile("", "sm_1").is_err(), "there is no such architecture");
    }
}

#[test]
fn without_a_device_a_launch_is_an_error() {
    let grid = Grid { blocks: (1, 1), threads: 32 };
    assert!(launch(Program::Geglu, "geglu", Kind::Half, Device::Cpu, grid, &[]).is_err());
    if !tch::Cuda::is_available() {
        assert!(launch(Program::Geglu, "geglu", Kind::Half, Device::Cuda(0), grid, &[]).is_err());
    }
    assert!(!takes(Device::Cpu, Kind::Float));
    assert!(!takes(Device::Cuda(0), Kind::Double));
}
