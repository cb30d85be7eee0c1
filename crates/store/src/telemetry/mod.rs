//! All SQL of telemetry: the `telemetry-<n>.db` files, and the usage ledger inside `state.db`.
//!
//! This knows tables and times, not spans: blocks arrive compressed and leave as they came. What may be kept,
//! when a file is full and what a block means is decided in the crate `telemetry`.

pub mod file;
mod rows;
pub mod usage;

pub use file::{Block, BlockIndex, File, FileError, LogSelect, Part, Rank, StoredBlock};
pub use usage::{Usage, UsageRow};
