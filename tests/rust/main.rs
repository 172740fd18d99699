//! One binary, whose modules mirror `src`.

mod checkpoint;
mod config;
mod encode;
mod noise;
mod pooling;
mod stages;
mod torch;
