//! One error type for the whole core. The Python layer maps each variant to the exception of the same name.

/// An error, classified by what the user can do about it.
///
/// Every message names what was given, what was expected, and a remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option, a text or an argument is out of its range (`ConfigError`).
    #[error("{0}")]
    Config(String),
    /// An image cannot be read or has an impossible shape (`ImageError`).
    #[error("{0}")]
    Image(String),
    /// A model folder is incomplete, corrupt or of an unsupported kind (`CheckpointError`).
    #[error("{0}")]
    Checkpoint(String),
    /// A deltas file does not fit (`DeltasError`).
    #[error("{0}")]
    Deltas(String),
    /// A dataset cannot be read (`DatasetError`).
    #[error("{0}")]
    Dataset(String),
    /// A score, a loss or a gradient in training is not finite (`TrainingError`).
    #[error("{0}")]
    Training(String),
    /// The network computed numbers that are not finite (`NumericalError`).
    #[error("{0}")]
    Numerical(String),
    /// Memory ran out on the device (`OutOfMemoryError`).
    #[error("{0}")]
    OutOfMemory(String),
    /// The requested device or data type is not available (`DeviceError`).
    #[error("{0}")]
    Device(String),
    /// The user interrupted the call (`KeyboardInterrupt`).
    #[error("interrupted")]
    Interrupted,
    /// A bug of this library (`DiscffusionError`).
    #[error("internal error: {0:#}; this is a bug in discffusion, please report it")]
    Internal(anyhow::Error),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The name of the Python exception for this variant.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Config(_) => "ConfigError",
            Error::Image(_) => "ImageError",
            Error::Checkpoint(_) => "CheckpointError",
            Error::Deltas(_) => "DeltasError",
            Error::Dataset(_) => "DatasetError",
            Error::Training(_) => "TrainingError",
            Error::Numerical(_) => "NumericalError",
            Error::OutOfMemory(_) => "OutOfMemoryError",
            Error::Device(_) => "DeviceError",
            Error::Interrupted => "KeyboardInterrupt",
            Error::Internal(_) => "DiscffusionError",
        }
    }
}
