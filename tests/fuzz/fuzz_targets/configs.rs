//! One of a checkpoint's configurations, beside the others as they should be.
#![no_main]

use discffusion::checkpoint::Checkpoint;
use discffusion::families::{self, Options};
use discffusion::noise::{DiffusionSampler, Schedule, SchedulerConfig};
use discffusion_fuzz::{checked, in_folder};
use libfuzzer_sys::fuzz_target;
use tch::{Device, Kind};

const WHOLE: [(&str, &[u8]); 5] = [
    ("model_index.json", include_bytes!("../tiny/model_index.json")),
    ("unet/config.json", include_bytes!("../tiny/unet/config.json")),
    ("vae/config.json", include_bytes!("../tiny/vae/config.json")),
    ("text_encoder/config.json", include_bytes!("../tiny/text_encoder/config.json")),
    ("scheduler/scheduler_config.json", include_bytes!("../tiny/scheduler/scheduler_config.json")),
];

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    let which = usize::from(*which) % WHOLE.len();
    let mut files = WHOLE;
    files[which].1 = data;
    in_folder(&files, |folder| {
        checked(|| {
            let checkpoint = Checkpoint::open(folder, None)?;
            let (scheduler, class) = checkpoint.scheduler()?;
            let schedule = Schedule::new(SchedulerConfig::read(&scheduler, class.as_deref(), None)?);
            let _ = DiffusionSampler::new(&schedule, 4, 0.0)?;
            // Weights are missing, and all of the configurations is read before them.
            let options = Options { device: Device::Cpu, kind: Kind::Float, prediction: None };
            families::of_checkpoint(&checkpoint)?.open(&checkpoint, &options).map(drop)
        });
    });
});
