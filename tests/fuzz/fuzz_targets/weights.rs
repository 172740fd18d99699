//! The weights of a network: a safetensors file, or the index of its shards.
#![no_main]

use discffusion::checkpoint::Weights;
use discffusion_fuzz::{checked, in_folder};
use libfuzzer_sys::fuzz_target;
use tch::{Device, Kind};

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    let names = ["model.safetensors", "model.fp16.safetensors", "model.safetensors.index.json"];
    let name = names[usize::from(*which) % names.len()];
    in_folder(&[(name, data)], |folder| {
        checked(|| {
            let weights = Weights::open(folder, "model", Some("fp16"), Device::Cpu, Kind::Float)?;
            let layer = &weights.root() / "a";
            for (name, shape) in [("weight", &[2, 3][..]), ("bias", &[2]), ("scale", &[])] {
                if layer.has(name) {
                    let _ = layer.get(name, shape)?;
                }
            }
            weights.finish(|_| false)
        });
        std::fs::remove_file(folder.join(name)).expect("it was written");
    });
});
