//! Stage 3: Eq. 3, `z_t = √ᾱ_t z + √(1−ᾱ_t) ε`, with the timesteps of a DDIM schedule and one seeded noise tensor a
//! timestep, shared by every pair of a request.

mod draw;
mod schedule;

pub use draw::draw;
pub use schedule::Schedule;
