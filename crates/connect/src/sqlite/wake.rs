//! Wakes a relay when the app has written: a commit changes the file or its write-ahead log. What a watch misses (a file
//! system that tells nothing) is found by polling.
//!
//! A file tells of a write while it is made, and of a commit not at all: what is written shows a sync later. So after each
//! change it is looked several times.

use std::{path::Path, sync::Arc, time::Duration};

use model::Clock;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// When it is looked again after a change, each after the one before.
const ECHOES: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(15),
    Duration::from_millis(60),
    Duration::from_millis(200),
];

/// The watch of a file.
pub(crate) struct Wake {
    clock: Clock,
    changed: Arc<Notify>,
    /// Which of the echoes is next.
    echo: usize,
    /// Ends the watch when it is dropped; `None` where there is none.
    _watcher: Option<RecommendedWatcher>,
}

impl Wake {
    pub(crate) fn of(file: &Path, clock: Clock) -> Self {
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let name = file.file_name().unwrap_or_default().to_owned();
        let of_the_file = move |path: &Path| {
            let other = path.file_name().unwrap_or_default().as_encoded_bytes();
            let rest = other.strip_prefix(name.as_encoded_bytes());
            matches!(rest, Some(b"" | b"-wal" | b"-journal"))
        };
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let tells = event.is_ok_and(|event| {
                let writes = matches!(
                    event.kind,
                    EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
                );
                writes && event.paths.iter().any(|path| of_the_file(path))
            });
            if tells {
                told.notify_one();
            }
        });
        // The folder: a write-ahead log comes and goes.
        let folder = file.parent().unwrap_or_else(|| Path::new("."));
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            tracing::info!(%error, file = %file.display(), "is not watched, only polled");
        }
        Self {
            clock,
            changed,
            echo: ECHOES.len(),
            _watcher: watcher.ok(),
        }
    }

    pub(crate) async fn changed(&mut self) {
        let told = self.changed.notified();
        let Some(wait) = ECHOES.get(self.echo) else {
            told.await;
            self.echo = 0;
            return;
        };
        tokio::select! {
            () = told => self.echo = 0,
            () = self.clock.sleep(*wait) => self.echo += 1,
        }
    }
}
