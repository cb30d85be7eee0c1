//! Tasks kept in step with what is live: one for each thing that is declared. It begins when that is declared, ends when that no
//! longer is, and both when it is declared otherwise: never do two work on the same.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

use super::stopped;
use crate::Platform;

/// The longest that is waited after a failure.
const LONGEST: Duration = Duration::from_secs(10);

/// Tasks of one kind.
pub(super) struct Kept<K, D> {
    /// What is declared now.
    pub(super) wanted: fn(&Platform) -> BTreeMap<K, D>,
    /// Begins a task, which ends soon after it is told to.
    pub(super) begin: fn(&Platform, K, D, watch::Receiver<bool>) -> JoinHandle<()>,
    /// One has ended.
    pub(super) ended: fn(&Platform, &K, Result<(), JoinError>),
}

/// One that runs.
struct Task<D> {
    declared: D,
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl<K: Ord + Clone, D: PartialEq + Clone> Kept<K, D> {
    /// Keeps them until told to stop.
    pub(super) async fn run(self, platform: Platform, mut stop: watch::Receiver<bool>) {
        let mut changed = platform.apps().changed();
        let mut tasks = BTreeMap::new();
        loop {
            changed.mark_unchanged();
            self.reconcile(&platform, &mut tasks).await;
            tokio::select! {
                switched = changed.changed() => if switched.is_err() { break },
                () = stopped(&mut stop) => break,
            }
        }
        self.end(&platform, tasks).await;
    }

    async fn reconcile(&self, platform: &Platform, tasks: &mut BTreeMap<K, Task<D>>) {
        let wanted = (self.wanted)(platform);
        let (live, over) = std::mem::take(tasks)
            .into_iter()
            .partition(|(key, task)| wanted.get(key) == Some(&task.declared));
        *tasks = live;
        self.end(platform, over).await;
        for (key, declared) in wanted {
            tasks.entry(key.clone()).or_insert_with(|| {
                let stop = watch::Sender::new(false);
                let told = stop.subscribe();
                let handle = (self.begin)(platform, key, declared.clone(), told);
                Task {
                    declared,
                    stop,
                    handle,
                }
            });
        }
    }

    /// All at once: each may take a while.
    async fn end(&self, platform: &Platform, tasks: BTreeMap<K, Task<D>>) {
        for task in tasks.values() {
            task.stop.send_replace(true);
        }
        for (key, task) in tasks {
            (self.ended)(platform, &key, task.handle.await);
        }
    }
}

/// How long to wait after a failure: `first`, doubled for each of the `failures` before it.
pub(super) fn backoff(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.min(10)).min(LONGEST)
}
