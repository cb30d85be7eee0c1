//! The schema of `state`.

use schemars::JsonSchema;

/// What a workload keeps.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum State {
    /// `folder`: a folder of its own that outlives instances; `streams`: the streams of its app.
    Word(StateWord),
    /// A bucket of its app.
    Kv(KvState),
    /// The streams of its app, perhaps only to be read.
    Streams(StreamsState),
}

/// What it keeps, in a word.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum StateWord {
    /// A folder of its own that outlives instances, in `TANGELO_STATE_DIR`.
    Folder,
    /// Streams of events of its app that it appends to and reads, at `TANGELO_STREAMS_URL`.
    Streams,
}

/// The streams of events of its app.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct StreamsState {
    /// What it may do with them.
    streams: KvAccess,
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

/// What may be done with it.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum KvAccess {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}
