//! Relays: the rows of apps' outboxes, and the changes of their tables, into the log. One relay for each that is live; a row is
//! settled after the fsync of its event, so that a kill at any moment repeats it, with the same id, and never loses it.

use std::{collections::BTreeMap, time::Duration};

use connect::{Fate, Feed, Options, What};
use model::{Capture, Database, Error, Outbox, database::Sent};
use store::crash::Moment;
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

use super::{
    kept::{Kept, backoff},
    stopped,
};
use crate::{
    Platform,
    databases::{RelayKey, RelayKind, slot},
    events::relayed,
};

/// Rows of one batch, published with one fsync.
const ROWS: u32 = 500;
/// Bytes of one batch: with the attributes and causes that events have, one command of the store, which fails or succeeds as a whole.
const BYTES: u64 = 2 << 20;
/// The first wait after a failure, doubled after each further one.
const BACKOFF: Duration = Duration::from_millis(100);
/// How often what waits is counted while there is work.
const COUNT: Duration = Duration::from_secs(1);

/// What a relay takes, as it is declared.
#[derive(Clone, PartialEq)]
pub(super) struct Declared {
    database: Database,
    taken: Taken,
}

#[derive(Clone, PartialEq)]
enum Taken {
    Outbox(Outbox),
    Capture(Capture),
}

impl Taken {
    const fn what(&self) -> What {
        match self {
            Self::Outbox(_) => What::Outbox,
            Self::Capture(_) => What::Capture,
        }
    }

    /// The table, or the slot.
    fn table(&self, key: &RelayKey) -> String {
        match self {
            Self::Outbox(outbox) => outbox.table.clone(),
            Self::Capture(_) => slot(&key.app, &key.database),
        }
    }

    const fn poll(&self) -> Duration {
        match self {
            Self::Outbox(outbox) => outbox.poll,
            Self::Capture(capture) => capture.poll,
        }
    }

    fn keeps(&self) -> bool {
        matches!(self, Self::Outbox(outbox) if outbox.sent == Sent::Keep)
    }

    fn types(&self) -> Vec<String> {
        match self {
            Self::Outbox(outbox) => outbox.publishes.clone(),
            Self::Capture(capture) => capture.types().collect(),
        }
    }
}

/// One relay for each outbox, and for each database whose changes are captured.
pub(super) const RELAYS: Kept<RelayKey, Declared> = Kept {
    wanted,
    begin,
    ended,
};

fn wanted(platform: &Platform) -> BTreeMap<RelayKey, Declared> {
    let live = platform.apps().live();
    let mut wanted = BTreeMap::new();
    for app in &live.apps {
        for (name, database) in &app.app.databases {
            let key = |kind| RelayKey {
                app: app.name.clone(),
                database: name.clone(),
                kind,
            };
            let declared = |taken| Declared {
                database: database.clone(),
                taken,
            };
            if let Some(outbox) = database.outbox.clone() {
                wanted.insert(key(RelayKind::Outbox), declared(Taken::Outbox(outbox)));
            }
            if let Some(capture) = database.capture.clone() {
                wanted.insert(key(RelayKind::Capture), declared(Taken::Capture(capture)));
            }
        }
    }
    wanted
}

fn begin(
    platform: &Platform,
    key: RelayKey,
    declared: Declared,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let (database, table) = (&declared.database, declared.taken.table(&key));
    let now = platform.clock().now();
    platform.relays().begin(&key, database, &table, now);
    tokio::spawn(relay(platform.clone(), key, declared, stop))
}

fn ended(platform: &Platform, key: &RelayKey, how: Result<(), JoinError>) {
    if let Err(error) = how {
        tracing::error!(%error, app = %key.app, database = %key.database, "a relay panicked");
    }
    platform.relays().end(key);
}

/// Relays until told to stop; whatever is in the way is reported, and tried again.
async fn relay(
    platform: Platform,
    key: RelayKey,
    declared: Declared,
    mut stop: watch::Receiver<bool>,
) {
    let mut failures = 0;
    loop {
        let error = tokio::select! {
            error = work(&platform, &key, &declared, &mut failures) => error,
            () = stopped(&mut stop) => return,
        };
        if platform
            .relays()
            .waits(&key, &error, platform.clock().now())
        {
            tracing::warn!(%error, app = %key.app, database = %key.database, "a relay waits");
        }
        let wait = backoff(BACKOFF, failures);
        failures += 1;
        tokio::select! {
            () = platform.clock().sleep(wait) => {}
            () = platform.relays().nudged() => {}
            () = stopped(&mut stop) => return,
        }
    }
}

/// Opens the outbox and relays what it has and what comes, until something is in the way.
async fn work(
    platform: &Platform,
    key: &RelayKey,
    declared: &Declared,
    failures: &mut u32,
) -> Error {
    match try_work(platform, key, declared, failures).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn try_work(
    platform: &Platform,
    key: &RelayKey,
    declared: &Declared,
    failures: &mut u32,
) -> Result<std::convert::Infallible, Error> {
    let address = platform.address(&key.app, &declared.database)?;
    let (relays, clock) = (platform.relays(), platform.clock());
    relays.at(key, &address);
    let mut feed = Feed::open(Options {
        clock: clock.clone(),
        address,
        what: declared.taken.what(),
        table: declared.taken.table(key),
        keep: declared.taken.keeps(),
        source: format!("/{}/{}", key.app, key.database),
        row_bytes: platform.limits().event.0,
        batch_bytes: BYTES,
        batch_rows: ROWS.min(u32::try_from(platform.limits().publish_batch).unwrap_or(ROWS)),
    })
    .await?;
    let mut counted = None;
    loop {
        let items = feed.next().await?;
        let idle = items.is_empty();
        if !idle {
            publish(platform, key, declared, &mut feed, items).await?;
        }
        // Only now it is known that all of it works.
        *failures = 0;
        let now = clock.now();
        relays.relaying(key, now);
        if idle || counted.is_none_or(|then| now.since(then) >= COUNT) {
            if let Some(warning) = relays.backlog(key, feed.backlog().await?) {
                tracing::warn!(app = %key.app, database = %key.database, "{warning}");
            }
            counted = Some(now);
        }
        if idle {
            tokio::select! {
                () = feed.changed() => {}
                () = clock.sleep(declared.taken.poll()) => {}
            }
        }
    }
}

async fn publish(
    platform: &Platform,
    key: &RelayKey,
    declared: &Declared,
    feed: &mut Feed,
    items: Vec<connect::Item>,
) -> Result<(), Error> {
    let (events, types) = (platform.events(), declared.taken.types());
    let new_trace = || platform.new_trace();
    let source = relayed::Source {
        app: &key.app,
        name: &key.database,
        types: &types,
    };
    let settled = relayed::publish(events, source, items, new_trace);
    let settled = settled.await?;
    platform.store().pass(Moment::Relayed);
    for one in &settled {
        if let Fate::Refused(why) = &one.fate {
            let (app, database, position) = (&key.app, &key.database, one.place);
            let code = model::code::ROW_REFUSED;
            tracing::warn!(%app, %database, position, why, %code, "a row is no event: it is set aside");
        }
    }
    let sent = settled.iter().filter(|one| one.fate == Fate::Sent).count();
    feed.settle(settled).await?;
    platform
        .relays()
        .sent(key, sent as u64, platform.clock().now());
    Ok(())
}
