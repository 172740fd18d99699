use tch::{Kind, Tensor};

use crate::Result;
use crate::encode::image::Rgb;
use crate::score::Model;
use crate::torch::check_interrupt;

impl Model {
    /// Latents `[n, C, h, w]` as the encoder gives them to images in [−1, 1] `[n, 3, H, W]`, float32, not clipped.
    pub fn decode_latents(&self, latents: &Tensor) -> Result<Tensor> {
        let decoder = self.decoder()?;
        // The decoder's last layers hold 256 channels at full size, about 1 GB for one image of 512 pixels.
        let budget = if self.device().is_cuda() { 8 } else { 1 } * 64 * 64;
        let size = latents.size();
        let at_a_time = (budget / (size[2] * size[3])).clamp(1, 256);
        let mut images = vec![];
        for start in (0..size[0]).step_by(at_a_time as usize) {
            check_interrupt()?;
            let some = latents.narrow(0, start, at_a_time.min(size[0] - start)).to_kind(self.kind());
            images.push(decoder.forward(&some)?.to_kind(Kind::Float));
        }
        let images = Tensor::cat(&images, 0);
        self.finite("the VAE's decoder", &images)?;
        Ok(images)
    }

    /// Latents `[n, C, h, w]` to pictures.
    pub(super) fn pictures(&self, latents: &Tensor) -> Result<Vec<Rgb>> {
        self.finite("generation, perhaps by its guidance_scale,", latents)?;
        let images = self.decode_latents(latents)?;
        let bytes = ((images / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round().to_kind(Kind::Uint8);
        let bytes = bytes.permute([0, 2, 3, 1]).contiguous().to_device(tch::Device::Cpu);
        let size = bytes.size();
        let (height, width) = (size[1] as usize, size[2] as usize);
        let picture = |i: i64| {
            let one = bytes.get(i);
            let mut data = vec![0u8; one.numel()];
            one.copy_data_u8(&mut data, one.numel());
            Rgb { width, height, data }
        };
        Ok((0..size[0]).map(picture).collect())
    }
}
