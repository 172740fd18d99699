//! Compiles what tch does not bind, and sets the run paths: where the linked code finds libtorch when it runs.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/torch/shim.cpp");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if linux {
        // The extension lies in site-packages/discffusion, torch beside it.
        println!("cargo:rustc-link-arg-cdylib=-Wl,-rpath,$ORIGIN/../torch/lib");
    }
    // torch-sys says where it found libtorch; without it there is nothing to compile against.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    // Test binaries run where they were built, against the libtorch they were built with.
    println!("cargo:rustc-link-arg-tests=-Wl,-rpath,{lib}");
    let include = Path::new(&lib).join("../include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/torch/shim.cpp")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        // torch's headers are not ours to clean up.
        .flag_if_supported("-Wno-unused-parameter")
        .flag_if_supported("-Wno-deprecated-declarations")
        .warnings(false)
        .compile("discffusion_shim");
}
