//! The shape of `events`.

#![allow(dead_code, reason = "the types are never made, only described")]

use schemars::JsonSchema;

use super::{Duration, Size};

/// The events that the app publishes.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Events {
    /// How long the log keeps them; whatever still needs one keeps it longer.
    retention: Retention,
}

/// How long the log keeps events: a time, a size, or both.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Retention {
    /// They may go when they are older than this. 7d unless given.
    time: Option<Duration>,
    /// The oldest may go when all together are larger than this. 8GiB unless given.
    size: Option<Size>,
}
