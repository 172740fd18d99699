//! The bytes of an image file: decoded, and scaled to what a model takes.
#![no_main]

use discffusion::encode::image::{Preprocess, Resize, decode, preprocess};
use discffusion_fuzz::checked;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    checked(|| {
        let image = decode(data)?;
        for resize in [Resize::Squash, Resize::Crop] {
            let _ = preprocess(&image, &Preprocess { height: 16, width: 16, via: None, resize })?;
        }
        Ok(())
    });
});
