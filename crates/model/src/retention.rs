//! How long the log keeps the events of an app.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::ByteSize;

/// What is kept at least. Whatever still needs an event keeps it longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Events younger than this.
    pub age: Duration,
    /// As long as all together is not larger than this: then the oldest go first.
    pub bytes: ByteSize,
}

impl Retention {
    /// The shortest time that can be asked for.
    pub const LEAST_AGE: Duration = Duration::from_secs(1);
    /// The longest.
    pub const MOST_AGE: Duration = Duration::from_secs(100 * 366 * 86_400);
    /// The smallest size that can be asked for.
    pub const LEAST_BYTES: ByteSize = ByteSize::kib(1);
    /// The largest.
    pub const MOST_BYTES: ByteSize = ByteSize::mib(1 << 24);
}

impl Default for Retention {
    /// A week, 8 GiB.
    fn default() -> Self {
        Self {
            age: Duration::from_secs(7 * 86_400),
            bytes: ByteSize::mib(8192),
        }
    }
}
