//! Bridges: one task for each topic that is read and for each subscription that is written, kept in step with what is live.

mod inbound;
mod outbound;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use model::{Error, Kafka, KafkaWay, RetryPolicy, Run, VersionId};
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

use super::{
    kept::{Kept, backoff},
    slept,
};
use crate::{
    Platform,
    bridges::{Way, WayKey},
};

/// The first wait after a failure, doubled after each further one.
const BACKOFF: Duration = Duration::from_millis(200);

/// What a task does, as it is declared.
#[derive(Clone, PartialEq)]
pub(super) struct Declared {
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

/// One task for each way.
pub(super) const BRIDGES: Kept<WayKey, Declared> = Kept {
    wanted,
    begin,
    ended,
};

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

fn begin(
    platform: &Platform,
    key: WayKey,
    declared: Declared,
    mut stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    platform.ways().begin(&key, platform.clock().now());
    let platform = platform.clone();
    tokio::spawn(async move {
        let mut failures = 0;
        loop {
            let moving = AssertUnwindSafe(run_one(&platform, &key, &declared, stop.clone()));
            if moving.catch_unwind().await.is_ok() {
                return;
            }
            let error = Error::internal("the bridge panicked; it begins anew");
            let wait = waits(&platform, &key, &error, failures);
            failures += 1;
            slept(platform.clock(), wait, &mut stop).await;
        }
    })
}

fn ended(platform: &Platform, key: &WayKey, how: Result<(), JoinError>) {
    if let Err(error) = how {
        tracing::error!(%error, app = %key.app, bridge = %key.bridge, "a bridge ended badly");
    }
    platform.ways().end(key);
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
    backoff(BACKOFF, failures)
}
