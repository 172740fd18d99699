//! One binary, whose modules mirror `src`.

mod calibration;
mod checkpoint;
mod config;
mod denoiser;
mod encode;
mod files;
mod fingerprint;
mod flow;
mod fused_pooling;
mod generate;
mod graphs;
mod joint;
mod kernels;
mod lora;
mod loss;
mod model;
mod noise;
mod pooling;
mod rooms;
mod runtime;
mod self_check;
mod shim;
mod tiny;
mod train;
