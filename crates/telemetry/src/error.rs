//! What can go wrong with telemetry as a whole. A damaged file or a full disk is not among it: that is counted
//! and gone around, because no request may fail for its trace.

use std::path::PathBuf;

/// Why telemetry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be made or read.
    #[error("the telemetry folder {path} cannot be used")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A telemetry file cannot be made.
    #[error(transparent)]
    File(#[from] store::telemetry::FileError),
    /// The endpoint of the OTLP collector is not one that can be reached.
    #[error("`{endpoint}` is not an OTLP endpoint: expected `http://host[:port][/path]`")]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// A thread could not be started.
    #[error("no thread for telemetry")]
    Thread(#[source] std::io::Error),
}
