//! A file of deltas, ours or LoRA: the contents of a safetensors file. The checksum, which no change would survive, is
//! left out of what is read as ours.
#![no_main]

use discffusion::Error;
use discffusion::checkpoint::TensorFile;
use discffusion::deltas::Deltas;
use discffusion_fuzz::{checked, model};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let parse = || TensorFile::parse(data).map_err(Error::Deltas);
    let (architecture, fingerprint) = model();
    let fingerprint = || Ok(fingerprint.clone());
    checked(|| Deltas::from_file(parse()?, &architecture, &fingerprint, true));
    checked(|| Deltas::from_tensors(parse()?, &architecture, &fingerprint, false));
});
