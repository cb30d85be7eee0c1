//! The only crate with SQL on Tangelo's own state: one SQLite database in WAL mode, one writer thread with group
//! commit, readers beside it, blobs in files. Knows no HTTP, no Wasm, no loops. What a verb acknowledged is on disk.
//!
//! A kernel (queue, writer, readers, checkpoints, migrations, shards, outbox, blobs) and a module per domain, each
//! with its tables, row types, verbs and its own suite in `tests/`. A transaction touches one domain and the outbox.

pub mod apps;
mod batch;
pub mod blobs;
pub mod calls;
mod checkpoint;
pub mod command;
mod connection;
pub mod crash;
mod error;
pub mod format;
pub mod inbox;
mod kernel;
pub mod kv;
mod lock;
pub mod log;
mod migrations;
mod options;
pub mod outbox;
mod queue;
mod readers;
pub mod reconcile;
pub mod shards;
mod store;
pub mod telemetry;
mod writer;

pub use connection::Durability;
pub use error::{Error, Result};
pub use kernel::Pending;
pub use lock::FolderLock;
pub use options::{Options, StoreLimits};
pub use queue::Urgency;
pub use store::{Stats, Store};
