use std::io::Cursor;

use discffusion::Error;
use discffusion::encode::image::{MAX_PIXELS, Preprocess, Resize, Rgb, decode, decode_known, preprocess, view};
use image::codecs::png::PngEncoder;
use image::{
    DynamicImage, ExtendedColorType, GrayImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, RgbImage, RgbaImage,
};

const FORMATS: [ImageFormat; 6] =
    [ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Tiff, ImageFormat::WebP];

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(vec![]);
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A smooth pattern, the same in every run.
fn pattern(width: usize, height: usize) -> Rgb {
    let value = |x: usize, y: usize, c: usize| ((37 * x + 91 * y + 53 * c + 17 * x * y) % 256) as u8;
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let data = pixels.flat_map(|(x, y)| [0, 1, 2].map(|c| value(x, y, c))).collect();
    Rgb { width, height, data }
}

fn picture() -> RgbImage {
    RgbImage::from_fn(24, 16, |x, y| image::Rgb([10 * x as u8, 15 * y as u8, 90]))
}

fn scale(image: &Rgb, width: usize, height: usize, via: Option<usize>, resize: Resize) -> Rgb {
    preprocess(image, &Preprocess { height, width, via, resize }).unwrap()
}

fn refusal<T: std::fmt::Debug>(result: discffusion::Result<T>) -> String {
    match result.unwrap_err() {
        Error::Image(message) | Error::Config(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lossless_formats_give_the_pixels_that_were_written() {
    for format in [ImageFormat::Bmp, ImageFormat::Png, ImageFormat::Tiff, ImageFormat::WebP] {
        let image = decode(&encode(picture(), format)).unwrap();
        assert_eq!((image.width, image.height), (24, 16));
        assert_eq!(image.data, picture().into_raw(), "{format:?}");
    }
}

#[test]
fn transparent_pixels_lie_on_white() {
    let image = RgbaImage::from_raw(3, 1, vec![200, 100, 0, 255, 200, 100, 0, 0, 200, 100, 0, 128]).unwrap();
    let image = decode(&encode(image, ImageFormat::Png)).unwrap();
    // (200·128 + 255·127) / 255 = 227.4, (100·128 + 255·127) / 255 = 177.2, 255·127 / 255 = 127.
    assert_eq!(image.data, [200, 100, 0, 255, 255, 255, 227, 177, 127]);
}

#[test]
fn what_is_not_known_here_is_told_from_what_is_damaged() {
    let png = encode(picture(), ImageFormat::Png);
    assert_eq!(decode_known(&png).unwrap().unwrap().data, picture().into_raw());
    // A TIFF whose samples are said to be CIE L*a*b* (8) instead of RGB (2): tag 262, one SHORT.
    let mut tiff = encode(picture(), ImageFormat::Tiff);
    let photometric = [6, 1, 3, 0, 1, 0, 0, 0, 2, 0];
    let at = tiff.windows(10).position(|entry| entry == photometric).unwrap();
    tiff[at + 8] = 8;
    for unknown in [b"\0\0\0\x1cftypavif\0\0\0\0".as_slice(), b"P6 1 1 255 abc", b"nothing", &tiff] {
        let reason = decode_known(unknown).unwrap().unwrap_err();
        assert_eq!(refusal(decode(unknown)), reason);
    }
    for format in FORMATS {
        let whole = encode(picture(), format);
        assert!(matches!(decode_known(&whole[..whole.len() / 2]), Err(Error::Image(_))), "{format:?}");
    }
}

#[test]
fn grey_and_16_bit_samples_are_scaled() {
    let grey = GrayImage::from_raw(2, 1, vec![7, 250]).unwrap();
    assert_eq!(decode(&encode(grey, ImageFormat::Png)).unwrap().data, [7, 7, 7, 250, 250, 250]);
    // 257 / 257 = 1, 385 / 257 = 1.498, 386 / 257 = 1.502.
    let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_raw(4, 1, vec![257, 385, 386, 65535]).unwrap();
    let levels: Vec<u8> = decode(&encode(deep, ImageFormat::Png)).unwrap().data.into_iter().step_by(3).collect();
    assert_eq!(levels, [1, 1, 2, 255]);
}

#[test]
fn the_orientation_is_applied() {
    // EXIF, little-endian: one entry, tag 0x112, a short of value 6: turn clockwise to view.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut bytes = vec![];
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.write_image(&[1, 1, 1, 2, 2, 2], 2, 1, ExtendedColorType::Rgb8).unwrap();
    let image = decode(&bytes).unwrap();
    assert_eq!((image.width, image.height), (1, 2));
    assert_eq!(image.data, [1, 1, 1, 2, 2, 2]);
}

#[test]
fn an_enormous_image_is_refused_before_it_is_decoded() {
    let mut bytes = encode(picture(), ImageFormat::Bmp);
    for (width, height) in [(60_000_u32, 60_000_u32), (2_000_000, 1), (0, 5)] {
        bytes[18..22].copy_from_slice(&width.to_le_bytes());
        bytes[22..26].copy_from_slice(&height.to_le_bytes());
        refusal(decode(&bytes));
    }
    bytes[18..26].copy_from_slice(&[0x60, 0xea, 0, 0, 0x60, 0xea, 0, 0]);
    let message = refusal(decode(&bytes));
    assert!(message.contains("60000 x 60000") && message.contains(&MAX_PIXELS.to_string()), "{message}");
}

#[test]
fn truncated_images_are_refused() {
    for format in FORMATS {
        let bytes = encode(picture(), format);
        for percent in [0, 1, 5, 30, 50, 70, 90] {
            refusal(decode(&bytes[..bytes.len() * percent / 100]));
        }
    }
    let jpeg = encode(picture(), ImageFormat::Jpeg);
    let message = refusal(decode(&jpeg[..jpeg.len() - 2]));
    assert!(message.contains("truncated"), "{message}");
    // More blocks are promised than there are bits: refused before any of them is decoded.
    let mut promising = jpeg;
    let frame = promising.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    promising[frame + 5..frame + 9].copy_from_slice(&[0x10, 0, 0x10, 0]);
    assert!(refusal(decode(&promising)).contains("truncated"));
    assert!(refusal(decode(b"not an image")).contains("expected BMP"));
}

#[test]
fn damaged_images_never_panic() {
    let files = FORMATS.map(|format| encode(picture(), format));
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..3000 {
        let mut bytes = files[draw(files.len())].clone();
        for _ in 0..=draw(4) {
            let at = draw(bytes.len());
            bytes[at] = draw(256) as u8;
        }
        if let Err(error) = decode(&bytes) {
            assert!(matches!(error, Error::Image(_)), "{error:?}");
        }
    }
}

#[test]
fn resampling_gives_pillows_numbers() {
    // Pillow 13.0.0: Image.fromarray(pattern).resize(size, Image.BICUBIC) of the 5 x 4 pattern.
    let image = pattern(5, 4);
    let smaller = scale(&image, 3, 2, None, Resize::Squash).data;
    assert_eq!(smaller, [80, 123, 158, 139, 156, 148, 144, 127, 180, 137, 139, 123, 142, 163, 135, 127, 101, 154]);
    let taller = scale(&image, 2, 6, None, Resize::Squash).data;
    let rows = [
        [25, 78, 135, 112, 172, 229],
        [83, 138, 164, 144, 146, 166],
        [157, 191, 175, 173, 113, 111],
        [184, 144, 109, 155, 103, 159],
        [137, 139, 116, 121, 129, 157],
        [87, 147, 140, 95, 154, 141],
    ];
    assert_eq!(taller, rows.concat());
}

#[test]
fn a_flat_image_stays_flat() {
    let image = Rgb { width: 7, height: 5, data: [12, 200, 255].repeat(35) };
    for resize in [Resize::Squash, Resize::Crop] {
        let scaled = scale(&image, 64, 33, Some(48), resize);
        assert_eq!(scaled.data, [12, 200, 255].repeat(64 * 33));
    }
}

#[test]
fn cropping_takes_the_middle() {
    let image = pattern(9, 4);
    // Already as high as asked for: columns 2 to 6, half of 5 rounded to even.
    let cropped = scale(&image, 4, 4, None, Resize::Crop);
    let rows = image.data.chunks(27).flat_map(|row| row[6..18].to_vec());
    assert_eq!(cropped.data, rows.collect::<Vec<u8>>());
    // On a square both ways are the same.
    let square = pattern(31, 31);
    assert_eq!(scale(&square, 16, 16, Some(8), Resize::Crop), scale(&square, 16, 16, Some(8), Resize::Squash));
}

#[test]
fn a_long_strip_costs_no_more_than_its_middle() {
    for (width, height) in [(200_000, 1), (1, 200_000)] {
        let strip = Rgb { width, height, data: vec![77; width * height * 3] };
        assert_eq!(scale(&strip, 32, 32, Some(16), Resize::Crop).data, vec![77; 32 * 32 * 3]);
    }
}

#[test]
fn via_throws_away_detail() {
    let image = pattern(40, 30);
    let step = scale(&image, 8, 8, None, Resize::Squash);
    assert_eq!(scale(&image, 20, 16, Some(8), Resize::Squash), scale(&step, 20, 16, None, Resize::Squash));
}

#[test]
fn impossible_sizes_and_data_are_refused() {
    let image = pattern(4, 4);
    let how = Preprocess { height: 8, width: 8, via: None, resize: Resize::Squash };
    assert!(refusal(preprocess(&image, &Preprocess { height: 0, ..how })).contains("height=0"));
    assert!(refusal(preprocess(&image, &Preprocess { width: 20_000, ..how })).contains("width=20000"));
    assert!(refusal(preprocess(&image, &Preprocess { via: Some(0), ..how })).contains("via=0"));
    let narrow = Preprocess { width: 8000, height: 1, via: Some(16), resize: Resize::Crop };
    assert!(refusal(preprocess(&image, &narrow)).contains("128000"));
    for broken in [Rgb { width: 0, height: 3, data: vec![] }, Rgb { width: 2, height: 2, data: vec![0; 4] }] {
        refusal(preprocess(&broken, &how));
    }
}

/// A ramp shows where each column of the result came from.
#[test]
fn the_view_is_where_the_pixels_come_from() {
    for (width, height) in [(96, 60), (60, 96), (64, 64), (101, 37)] {
        let ramp = |along: usize, of: usize| (255.0 * along as f64 / (of - 1) as f64).round() as u8;
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| [ramp(x, width), ramp(y, height), 0]));
        let image = Rgb { width, height, data: pixels.flatten().collect() };
        for (resize, via) in
            [(Resize::Squash, None), (Resize::Crop, None), (Resize::Crop, Some(24)), (Resize::Squash, Some(24))]
        {
            let how = Preprocess { height: 32, width: 32, via, resize };
            let (seen, [left, top, right, bottom]) = (preprocess(&image, &how).unwrap(), view((width, height), &how));
            let at = |start: f64, end: f64, of: usize, i: usize| {
                let pixel = start + (i as f64 + 0.5) / 32.0 * (end - start) - 0.5;
                255.0 * pixel / (of - 1) as f64
            };
            // Away from the edges, where the filter reaches outside.
            for i in 6..26 {
                let place = 3 * (i * 32 + i);
                let found = [seen.data[place], seen.data[place + 1]].map(f64::from);
                for (found, wanted) in found.iter().zip([at(left, right, width, i), at(top, bottom, height, i)]) {
                    assert!((found - wanted).abs() < 2.5, "{width}x{height} {how:?}: {found} at {i}, not {wanted}");
                }
            }
        }
    }
}
