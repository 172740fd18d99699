//! LoRA keys, shapes and metadata. A line of the input is a key with the sizes of its tensor, `KEY 4 3`, or, after the
//! first empty line, a name and a value of the metadata, `NAME VALUE`.
#![no_main]

use std::collections::HashMap;

use discffusion::deltas::lora;
use discffusion_fuzz::checked;
use libfuzzer_sys::fuzz_target;
use tch::{Device, Kind, Tensor};

/// Of a tensor; what libtorch itself makes of more is not the question here.
const MOST_NUMBERS: i64 = 1 << 12;
const MOST_AXES: usize = 5;

fuzz_target!(|text: &str| {
    let (keys, metadata) = text.split_once("\n\n").unwrap_or((text, ""));
    let tensor = |line: &str| {
        let mut words = line.split(' ');
        let key = words.next()?.to_owned();
        let sizes = words.map(|size| size.parse::<u8>().ok().map(i64::from)).collect::<Option<Vec<_>>>()?;
        let numbers = sizes.iter().try_fold(1, |product: i64, size| product.checked_mul(*size))?;
        (sizes.len() <= MOST_AXES && numbers <= MOST_NUMBERS)
            .then(|| (key, Tensor::ones(&sizes, (Kind::Float, Device::Cpu))))
    };
    let Some(tensors) = keys.lines().map(tensor).collect::<Option<Vec<_>>>() else { return };
    let metadata: HashMap<String, String> = (metadata.lines())
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let Some(pairs) = checked(|| lora::read(tensors, &metadata)) else { return };
    // Only files for modules that a network may have are ever written.
    if !pairs.keys().all(|path| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))) {
        return;
    }
    for format in [lora::Format::Diffusers, lora::Format::Peft] {
        let (again, mut metadata) = lora::write(&pairs, format, "unet");
        if format == lora::Format::Peft {
            metadata.insert(lora::PEFT_CONFIG.to_owned(), lora::peft_config(&pairs).to_string());
        }
        let read = checked(|| lora::read(again, &metadata)).expect("what was written can be read");
        assert_eq!(read.keys().collect::<Vec<_>>(), pairs.keys().collect::<Vec<_>>());
    }
});
