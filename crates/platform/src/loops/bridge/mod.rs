//! Bridges: one task for each topic that is read and for each subscription that is written, kept in step with what is live.

mod inbound;
mod outbound;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use model::{Error, Kafka, KafkaWay, RetryPolicy, Run, VersionId};
use tokio::{sync::watch, task::JoinHandle};

use super::stopped;
use crate::{
    Platform,
    bridges::{Way, WayKey},
};

/// The first wait after a failure, doubled after each further one.
const BACKOFF: Duration = Duration::from_millis(200);
/// The longest.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// What a task does, as it is declared.
#[derive(Clone, PartialEq)]
struct Declared {
    doing: Doing,
    way: KafkaWay,
}

/// With which cluster, and for how long.
#[derive(Clone, PartialEq)]
struct Doing {
    kafka: Arc<Kafka>,
    /// Of the bridge: its files are under this.
    version: VersionId,
    /// The longest that an event may wait.
    age: Option<Duration>,
}

struct Task {
    declared: Declared,
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let mut changed = platform.apps().changed();
    let mut tasks: BTreeMap<WayKey, Task> = BTreeMap::new();
    loop {
        changed.mark_unchanged();
        reconcile(&platform, &mut tasks).await;
        tokio::select! {
            switched = changed.changed() => if switched.is_err() { break },
            () = stopped(&mut stop) => break,
        }
    }
    end_all(&platform, tasks).await;
}

async fn reconcile(platform: &Platform, tasks: &mut BTreeMap<WayKey, Task>) {
    let wanted = wanted(platform);
    let over = |(key, task): &(&WayKey, &Task)| wanted.get(key) != Some(&task.declared);
    let over: Vec<_> = tasks
        .iter()
        .filter(over)
        .map(|(key, _)| key.clone())
        .collect();
    let over = over.into_iter().filter_map(|key| tasks.remove_entry(&key));
    end_all(platform, over.collect()).await;
    for (key, declared) in wanted {
        tasks
            .entry(key.clone())
            .or_insert_with(|| begin(platform, key, declared));
    }
}

fn wanted(platform: &Platform) -> BTreeMap<WayKey, Declared> {
    let live = platform.apps().live();
    let mut wanted = BTreeMap::new();
    for app in &live.apps {
        for (name, callee) in &app.callees {
            let Run::Kafka(kafka) = &callee.workload.run else {
                continue;
            };
            let kafka = Arc::new(kafka.clone());
            for way in &kafka.ways {
                let (which, subscription) = match way {
                    KafkaWay::In { .. } => (Way::In, None),
                    KafkaWay::Out { subscription, .. } => (Way::Out, Some(subscription.clone())),
                };
                let mut all = callee.workload.on.iter();
                let own = all.find(|on| Some(&on.name) == subscription.as_ref());
                let endless = RetryPolicy::endless().max_age;
                let age = own.map(|on| on.retry.max_age).filter(|age| *age < endless);
                let doing = Doing {
                    kafka: Arc::clone(&kafka),
                    version: callee.version,
                    age,
                };
                let key = WayKey {
                    app: app.name.clone(),
                    bridge: name.clone(),
                    way: which,
                    topic: way.topic().to_owned(),
                    subscription,
                };
                let way = way.clone();
                wanted.insert(key, Declared { doing, way });
            }
        }
    }
    wanted
}

fn begin(platform: &Platform, key: WayKey, declared: Declared) -> Task {
    platform.ways().begin(&key, platform.clock().now());
    let stop = watch::Sender::new(false);
    let (told, platform, own) = (stop.subscribe(), platform.clone(), declared.clone());
    let handle = tokio::spawn(async move {
        let mut failures = 0;
        loop {
            let moving = AssertUnwindSafe(run_one(&platform, &key, &own, told.clone()));
            if moving.catch_unwind().await.is_ok() {
                return;
            }
            let error = Error::internal("the bridge panicked; it begins anew");
            let wait = waits(&platform, &key, &error, failures);
            failures += 1;
            platform.clock().sleep(wait).await;
        }
    });
    Task {
        declared,
        stop,
        handle,
    }
}

async fn run_one(platform: &Platform, key: &WayKey, own: &Declared, told: watch::Receiver<bool>) {
    let doing = &own.doing;
    match &own.way {
        KafkaWay::In {
            kind, types, all, ..
        } => {
            let inbound = inbound::Inbound {
                platform,
                key,
                doing,
                kind: kind.as_deref(),
                types,
                all: *all,
            };
            inbound.run(told).await;
        }
        KafkaWay::Out {
            key: path, mode, ..
        } => {
            let path = path.as_deref();
            let outbound = outbound::Outbound::new(platform, key, doing, path, *mode);
            outbound.run(told).await;
        }
    }
}

async fn end_all(platform: &Platform, tasks: BTreeMap<WayKey, Task>) {
    for task in tasks.values() {
        task.stop.send_replace(true);
    }
    for (key, task) in tasks {
        if let Err(error) = task.handle.await {
            tracing::error!(%error, app = %key.app, bridge = %key.bridge, "a bridge ended badly");
        }
        platform.ways().end(&key);
    }
}

/// Says what is in the way, and how long to wait for it.
fn waits(platform: &Platform, key: &WayKey, error: &Error, failures: u32) -> Duration {
    let mut error = error.clone();
    // What brokers say may repeat what they were told.
    error.message = platform
        .deployer()
        .secrets
        .redact(&error.message)
        .into_owned();
    if platform.ways().waits(key, &error, platform.clock().now()) {
        tracing::warn!(%error, app = %key.app, bridge = %key.bridge, topic = key.topic, "a bridge waits");
    }
    let doubled = BACKOFF.saturating_mul(1 << failures.min(10));
    doubled.min(MAX_BACKOFF)
}
