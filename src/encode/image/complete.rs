//! Detection of truncated files, for formats whose decoder does not detect them.

use image::ImageFormat;

/// Whether a file of an image with so many pixels seems to be complete.
///
/// The JPEG decoder fills missing parts with grey, and the WebP decoder stops at the end of the first frame. The other
/// decoders report truncated files.
pub(super) fn is_complete(format: ImageFormat, bytes: &[u8], pixels: u64) -> bool {
    match format {
        ImageFormat::Jpeg => has_bits_for(bytes, pixels) && has_end_marker(bytes),
        ImageFormat::WebP => has_riff_length(bytes),
        _ => true,
    }
}

/// Whether a JPEG file is large enough for so many pixels: the mean of each block of 8 × 8 takes at least one bit.
/// Otherwise a file of a few hundred bytes that declares the largest size would keep the decoder busy for seconds.
fn has_bits_for(bytes: &[u8], pixels: u64) -> bool {
    8 * bytes.len() as u64 >= pixels / 64
}

/// Whether the file is as long as its RIFF header (`RIFF`, length of what follows, little-endian) says.
fn has_riff_length(bytes: &[u8]) -> bool {
    match bytes.get(4..8) {
        Some(&[a, b, c, d]) => bytes.len() - 8 >= u32::from_le_bytes([a, b, c, d]) as usize,
        _ => false,
    }
}

/// Whether the JPEG stream reaches its end marker.
///
/// Walks the markers. A segment is skipped by its length, so that a thumbnail inside the metadata does not count;
/// the entropy-coded data after a start of scan lasts until the next marker that is not a restart.
fn has_end_marker(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    let mut at = 0;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            END => return true,
            // Markers without a segment: a byte for private use, the start of the image.
            0x01 | 0xd8 => continue,
            _ => {}
        }
        let Some(&[high, low]) = bytes.get(at..at + 2) else {
            return false;
        };
        at += usize::from(u16::from_be_bytes([high, low])).max(2);
    }
    false
}

/// The next marker from `at` on; leaves `at` behind it.
///
/// Stuffed bytes (`ff 00`), fill bytes (`ff ff`) and restarts are passed over.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        *at += bytes.get(*at..)?.iter().position(|&byte| byte == 0xff)? + 1;
        match *bytes.get(*at)? {
            0xff => {}
            0x00 | 0xd0..=0xd7 => *at += 1,
            marker => {
                *at += 1;
                return Some(marker);
            }
        }
    }
}
