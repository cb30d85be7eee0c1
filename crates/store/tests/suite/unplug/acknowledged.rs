//! Work from many sides until the disk is unplugged at some moment; what was acknowledged must be there afterwards. And
//! the proof that these tests would notice: without one of the syncs, something is lost.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use model::{Clock, Position};
use parking_lot::Mutex;
use store::{
    Durability, Options, Store,
    blobs::{BlobRef, Blobs},
    log::{Log, RetryRow, StoredSubscription, SubscriptionId},
};

use super::{Disk, OnDisk, vfs};
use crate::fixture::{Cursors, START, cursor, event, space, subscribe};

/// What was answered before the power went.
#[derive(Default, Clone)]
struct Acknowledged {
    events: Vec<(u64, String)>,
    blobs: Vec<BlobRef>,
    through: u64,
    retries: Vec<(SubscriptionId, u64)>,
}

/// What of it was not there afterwards.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lost {
    events: usize,
    blobs: usize,
    cursors: usize,
    retries: usize,
}

fn options(dir: &std::path::Path, disk: &Arc<Disk>, durability: Durability) -> Options {
    Options {
        vfs: Some(vfs::register(Arc::clone(disk))),
        files: Arc::new(OnDisk(Arc::clone(disk))),
        durability,
        ..Options::new(dir, Clock::virtual_at(START))
    }
}

/// What is known to be acknowledged, while work goes on.
type Known = Arc<Mutex<Acknowledged>>;

/// Publishers, a settler and one who puts blobs, until `unplug_after` acknowledgements came.
async fn work_until_unplugged(
    store: &Store,
    disk: &Arc<Disk>,
    round: u32,
    unplug_after: usize,
) -> Acknowledged {
    let known = Known::default();
    subscribe(store).await;
    let stored = store.log().subscriptions().await.expect("reads");
    let mut tasks = tokio::task::JoinSet::new();
    for publisher in 0..8 {
        let name = format!("{round}-{publisher}");
        tasks.spawn(publish(store.log(), name, Arc::clone(&known)));
    }
    let (subscription, cursor) = stored.into_iter().next().expect("has one");
    let settling = settle(
        store.clone(),
        subscription,
        cursor.through.0,
        Arc::clone(&known),
    );
    tasks.spawn(settling);
    tasks.spawn(put(store.blobs(), round, Arc::clone(&known)));
    while known.lock().events.len() < unplug_after {
        tokio::task::yield_now().await;
    }
    // What is known now was acknowledged while the power was on.
    let acknowledged = known.lock().clone();
    disk.unplug();
    while tasks.join_next().await.is_some() {}
    acknowledged
}

async fn publish(log: Log, name: String, known: Known) {
    for number in 0.. {
        // Every eighth is a blob, the others fill the WAL so that it is checkpointed.
        let size = if number % 8 == 0 { 30_000 } else { 9_000 };
        let name = format!("{name}-{number}");
        let Ok(done) = log.append(&space(), vec![event(&name, size)]).await else {
            return;
        };
        known.lock().events.push((done[0].position.0, name));
    }
}

async fn settle(store: Store, subscription: StoredSubscription, from: u64, known: Known) {
    let (log, id) = (store.log(), subscription.id);
    let owned = store.shards().owner(subscription.shard).expect("owns all");
    let cursors = Cursors::of(&log);
    for through in from + 1.. {
        let row = RetryRow {
            subscription: id,
            position: Position(through),
            due: START,
            attempts: 1,
            born: START,
            first_at: START,
            history: vec![],
            lane: None,
            replay: None,
        };
        let written = async {
            let settled = cursors.settle(owned, cursor(id, through, &[], false))?;
            settled.done().await?;
            known.lock().through = through;
            log.retry(owned, row)?.done().await?;
            known.lock().retries.push((id, through));
            Ok::<_, store::Error>(())
        };
        if written.await.is_err() {
            return;
        }
    }
}

async fn put(blobs: Blobs, round: u32, known: Known) {
    for number in 0..u32::MAX {
        let bytes = Bytes::from(format!("{round}-{number}-").repeat(5000));
        let Ok(blob) = blobs.put(bytes).await else {
            return;
        };
        known.lock().blobs.push(blob);
    }
}

async fn missing(store: &Store, known: &Acknowledged) -> Lost {
    let mut lost = Lost::default();
    for (position, id) in &known.events {
        let found = store.log().event(&space(), Position(*position)).await;
        let is_there = matches!(&found, Ok(Some(logged)) if logged.event.id == *id);
        lost.events += usize::from(!is_there);
    }
    for blob in &known.blobs {
        lost.blobs += usize::from(store.blobs().read(*blob).await.is_err());
    }
    let stored = store.log().subscriptions().await.expect("reads");
    let through = stored.first().map_or(0, |(_, cursor)| cursor.through.0);
    lost.cursors = usize::from(through < known.through);
    for (id, position) in &known.retries {
        let found = store.log().retry_item(*id, Position(*position)).await;
        lost.retries += usize::from(!matches!(found, Ok(Some(_))));
    }
    lost
}

/// Opens once in order, so that a schema is there whatever comes; then works, pulls the plug, and looks.
async fn lost_with(durability: Durability, rounds: &[usize]) -> Lost {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let clock = || Clock::virtual_at(START);
    let store = Store::open(Options::new(dir.path(), clock())).expect("opens");
    store.close().await.expect("closes");
    let mut all = Lost::default();
    for (round, unplug_after) in (0..).zip(rounds) {
        let disk = Disk::new();
        let store = Store::open(options(dir.path(), &disk, durability)).expect("opens");
        let known = work_until_unplugged(&store, &disk, round, *unplug_after).await;
        store.crash();
        drop(store);
        wait_for_the_lock(dir.path());
        disk.restore();
        let store = Store::open(Options::new(dir.path(), clock())).expect("opens");
        let lost = missing(&store, &known).await;
        store.close().await.expect("closes");
        all.events += lost.events;
        all.blobs += lost.blobs;
        all.cursors += lost.cursors;
        all.retries += lost.retries;
    }
    all
}

/// The threads of a store hold the lock for as long as they have files open.
pub(crate) fn wait_for_the_lock(dir: &std::path::Path) {
    let file = std::fs::File::open(dir.join("lock")).expect("is there");
    file.lock().expect("the threads end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_power() {
    let lost = lost_with(Durability::Full, &[7, 1000, 61, 300, 600]).await;
    assert_eq!(lost, Lost::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_sync_of_commits_it_would_not_and_this_is_noticed() {
    let lost = lost_with(Durability::WithoutCommitSync, &[100, 100]).await;
    assert!(lost.events > 0 && lost.retries > 0, "{lost:?}");
    assert_eq!(lost.blobs, 0, "blobs do not hang on it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_sync_of_blobs_it_would_not_and_this_is_noticed() {
    let lost = lost_with(Durability::WithoutBlobSync, &[100, 100]).await;
    assert!(lost.blobs > 0 && lost.events > 0, "{lost:?}");
    assert_eq!(
        (lost.cursors, lost.retries > 0),
        (0, true),
        "rows are there, their blobs are not"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_sync_of_folders_it_would_not_and_this_is_noticed() {
    let lost = lost_with(Durability::WithoutFolderSync, &[100, 100]).await;
    assert!(lost.blobs > 0 && lost.events > 0, "{lost:?}");
}

/// The whole suite runs on such a disk too: whatever a test of it left must be there after the power went.
pub(crate) async fn everything_survives(store: Store, disk: &Disk, dir: &std::path::Path) {
    store.flush().await.expect("commits what is queued");
    let before = contents(dir);
    disk.unplug();
    store.crash();
    drop(store);
    wait_for_the_lock(dir);
    disk.restore();
    let after = contents(dir);
    assert_eq!(before, after);
    let clock = Clock::virtual_at(START + Duration::from_secs(365 * 86_400));
    let store = Store::open(Options::new(dir, clock)).expect("opens");
    store.close().await.expect("closes");
}

/// Every row of every table, and which blobs are there.
fn contents(dir: &std::path::Path) -> Vec<String> {
    let database = rusqlite::Connection::open(dir.join("state.db")).expect("opens");
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    let mut tables = database.prepare(names).expect("prepares");
    let tables = tables
        .query_map([], |row| row.get::<_, String>(0))
        .expect("reads");
    let mut all = Vec::new();
    for table in tables {
        let table = table.expect("reads");
        let mut rows = database
            .prepare(&format!("SELECT * FROM {table}"))
            .expect("prepares");
        let columns = rows.column_count();
        let mut rows = rows.query([]).expect("reads");
        while let Some(row) = rows.next().expect("reads") {
            let values: Vec<_> = (0..columns)
                .map(|at| row.get_ref(at).expect("has it"))
                .collect();
            all.push(format!("{table}: {values:?}"));
        }
    }
    let mut blobs = database
        .prepare("SELECT lower(hex(hash)) FROM blob WHERE refs > 0")
        .expect("prepares");
    let blobs = blobs
        .query_map([], |row| row.get::<_, String>(0))
        .expect("reads");
    for blob in blobs {
        let hash = blob.expect("reads");
        let path = dir.join("blobs").join(&hash[..2]).join(&hash);
        let size = std::fs::metadata(path).map(|file| file.len());
        all.push(format!("{hash}: {:?}", size.ok()));
    }
    all
}
