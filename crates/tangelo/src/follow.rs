//! Files that are read again when they change: looked at every so often, and at once when the server gets SIGHUP.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use model::Clock;
use tokio::signal::unix::{SignalKind, signal};

/// How often it is looked whether anything has changed.
const LOOK: Duration = Duration::from_secs(2);

/// What changes when somebody writes a file, or puts another in its place; `None`: it is not there.
pub(crate) type Stamp = Option<(SystemTime, u64)>;

/// The stamp of a file.
pub(crate) fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

/// Calls `read_again` whenever what `stamps` gives has changed, and on SIGHUP. Does not end.
pub(crate) async fn changes<S: PartialEq>(
    clock: &Clock,
    stamps: impl Fn() -> S,
    read_again: impl Fn(),
) {
    let Ok(mut asked) = signal(SignalKind::hangup()) else {
        return;
    };
    let mut seen = stamps();
    loop {
        let told = tokio::select! {
            _ = asked.recv() => true,
            () = clock.sleep(LOOK) => false,
        };
        let now = stamps();
        if told || now != seen {
            seen = now;
            read_again();
        }
    }
}
