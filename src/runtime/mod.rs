//! How the core runs beside its caller: the guard at its border, interruption, warnings, threads.
//!
//! tch's plain methods panic when libtorch throws. Inside the core they are used freely, since every input is
//! checked at a stage's border; [`guarded`] stands at the door and turns what still escapes into a typed error.

mod errors;
mod guard;
mod lock;
mod prefetch;
mod shared;
mod signals;
mod state;
pub mod teams;
pub mod warnings;

pub use errors::{fail, from_tch};
pub(crate) use errors::{from_text, last_error};
pub use guard::{caught, check_interrupt, gradients, guarded};
pub use lock::Lock;
pub use prefetch::prefetch;
pub use shared::Shared;
pub use state::{Visit, outside};
