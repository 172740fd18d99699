//! CUDA kernels as far as they can be tried without a device: NVIDIA's compiler takes them, for every type.

use discffusion::kernels::cuda::nvrtc::{architecture, compile};
use discffusion::kernels::cuda::programs::{Program, source, takes};
use discffusion::kernels::cuda::{Grid, launch};
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
    let all = [Kind::Float, Kind::Half, Kind::BFloat16];
    let of_all = [
        Program::Geglu,
        Program::GroupNorm,
        Program::Add,
        Program::Upsample,
        Program::LayerNorm { packs: 2 },
        Program::Pool { values: 3 },
    ];
    // Those of Stable Diffusion 1 and 2.
    let of_halves = [48, 64, 80, 128].map(|depth| (Program::Attend { depth }, &all[1..]));
    for (program, kinds) in of_all.map(|program| (program, &all[..])).into_iter().chain(of_halves) {
        for &kind in kinds {
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
