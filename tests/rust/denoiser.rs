//! Batches: which latent belongs to which row.

use discffusion::denoiser::{Batch, MicroConditions};
use discffusion::encode::Conditioning;
use tch::Tensor;

fn latents(of: &[usize]) -> Vec<f64> {
    let noised = Tensor::from_slice(&[10.0f64, 20.0]).view([2, 1, 1, 1]);
    let (timesteps, text) =
        (Tensor::from_slice(&[1i64, 2]), Tensor::ones([1, 2, 3], (tch::Kind::Float, tch::Device::Cpu)));
    let texts = Conditioning { context: text, pooled: None };
    let batch = Batch::new(&noised, &timesteps, &texts, of, &vec![0; of.len()], MicroConditions::of_size([8, 8]));
    discffusion::device::to_vec64(&batch.by_row(&noised))
}

#[test]
fn every_row_gets_its_latent() {
    assert_eq!(latents(&[0, 1]), [10.0, 20.0]);
    assert_eq!(latents(&[1, 0, 0]), [20.0, 10.0, 10.0]);
    assert_eq!(latents(&[1]), [20.0]);
}

#[test]
#[should_panic(expected = "in the order of the rows")]
fn as_many_latents_as_rows_in_another_order_are_refused() {
    latents(&[1, 0]);
}
