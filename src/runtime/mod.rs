//! The boundary between the core and its caller: entry, interruption, warnings, threads.
//!
//! tch's plain methods panic when libtorch throws. The core uses them freely, since every stage checks its inputs;
//! [`guarded`] turns remaining panics into typed errors at the entry of the core.

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
