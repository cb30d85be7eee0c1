//! The schema of `state`.

use schemars::JsonSchema;

/// What a workload keeps.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum State {
    /// `folder`: a folder of its own that outlives instances.
    Folder(Folder),
    /// A bucket of its app.
    Kv(KvState),
}

/// A folder of its own that outlives instances.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Folder {
    /// It is in `TANGELO_STATE_DIR`.
    Folder,
}

/// A bucket of keys and values that the workloads of the app share.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct KvState {
    /// Which one: its name, or a map.
    kv: KvUse,
}

/// A bucket, and what may be done with it.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum KvUse {
    /// Its name; it may be read and written.
    Name(String),
    /// The same with less.
    Map(KvBucket),
}

/// A bucket, and what may be done with it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct KvBucket {
    /// Its name.
    bucket: String,
    /// `write` unless given, which includes reading.
    access: Option<KvAccess>,
}

/// What may be done with a bucket.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum KvAccess {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}
