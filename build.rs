//! Compiles what tch does not bind, and sets the run paths: where the linked code finds libtorch when it runs.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for folder in ["src/kernels", "src/runtime"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if linux {
        // The extension lies in site-packages/discffusion, torch beside it.
        println!("cargo:rustc-link-arg-cdylib=-Wl,-rpath,$ORIGIN/../torch/lib");
    }
    // torch-sys says where it found libtorch; without it there is nothing to compile against.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    // Test binaries run where they were built, against the libtorch they were built with. A source distribution has no
    // tests, and cargo refuses an argument for them.
    if Path::new("tests/rust/main.rs").exists() {
        println!("cargo:rustc-link-arg-tests=-Wl,-rpath,{lib}");
    }
    let include = Path::new(&lib).join("../include");
    let mut shim = cc::Build::new();
    shim.cpp(true)
        .std("c++17")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        // torch's headers are not ours to clean up.
        .flag_if_supported("-Wno-unused-parameter")
        .flag_if_supported("-Wno-deprecated-declarations")
        .warnings(false);
    let mut kernels = shim.clone();
    // Headers of one are used by the other.
    for folder in ["src/kernels", "src/runtime"] {
        shim.include(folder);
    }
    kernels.include("src/runtime");
    shim.files(
        ["kernels/shim", "kernels/graph", "runtime/state", "runtime/teams"].map(|file| format!("src/{file}.cpp")),
    )
    .compile("discffusion_shim");
    // Loops over numbers, which are to be fast in every profile; vectors alone, no threads of OpenMP.
    kernels.opt_level(3).flag_if_supported("-fopenmp-simd");
    kernels.file("src/kernels/attend.cpp").compile("discffusion_kernels");
}
