//! One line of a workload's log, with all that finds it again.

use model::{AppName, InstanceId, InvocationId, Time, TraceId, WorkloadName};
use serde::{Deserialize, Serialize};

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The platform, about the instance.
    Platform,
}

impl LogStream {
    /// All streams; the place of a stream is its stored number.
    pub(crate) const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Platform];

    /// `stdout`, `stderr` or `platform`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Platform => "platform",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it was read.
    pub time: Time,
    /// The app.
    pub app: AppName,
    /// The workload.
    pub workload: WorkloadName,
    /// The instance that wrote it.
    pub instance: InstanceId,
    /// The invocation, where it is known for certain.
    pub invocation: Option<InvocationId>,
    /// Its trace.
    pub trace: Option<TraceId>,
    /// Where it was written.
    pub stream: LogStream,
    /// The text, without its line end.
    pub text: String,
}

impl LogRecord {
    /// About how many bytes of memory it holds.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}
