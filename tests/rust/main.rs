//! One binary, whose modules mirror `src`.

mod backbone;
mod checkpoint;
mod config;
mod digest;
mod encode;
mod files;
mod fingerprint;
mod generate;
mod graphs;
mod kernels;
mod lora;
mod loss;
mod noise;
mod pooling;
mod shim;
mod stages;
mod torch;
mod train;
mod trial;
