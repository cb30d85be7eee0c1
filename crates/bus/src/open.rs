//! Opening: cursors, retries and counts come from the store; what ran when the last boot ended has used an attempt.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use model::{Clock, Ids, Limits, Namespace, Position, Time};
use parking_lot::Mutex;
use store::{
    Store,
    crash::Moment,
    log::{Log, StoredCursor, StoredSubscription, Waiting},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    Bus, Error,
    bus::Shared,
    calls, fill,
    follow::{self, Follower},
    jobs,
    lanes::Lane,
    matching::{self, Index},
    projections,
    range::{MAX_RETRYING, Range},
    state::State,
};

/// How long what is taken is noted durably first, after a boot that ended badly.
const CAREFUL: Duration = Duration::from_secs(30);

impl Bus {
    /// Opens the bus on a store; one per store.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(store: Store, clock: Clock, ids: Ids, limits: Limits) -> Result<Self, Error> {
        let log = store.log();
        // Before anything is read, so that nothing falls between what is read and what is followed.
        let tail = log.tail();
        let extents = log.extents().await?;
        recover(&store).await?;
        let calls = calls::Calls::open(&store, clock.clone(), ids.clone()).await?;
        let mut state = State::default();
        let marks = extents
            .iter()
            .map(|(namespace, e)| (namespace.clone(), e.mark));
        state.scanned = marks.collect();
        let indexes = load(&store, &mut state).await?;
        let shared = Arc::new(Shared {
            shards: store.shards(),
            log,
            careful_until: careful_until(&store, &clock),
            store,
            clock,
            ids,
            limits,
            state: Mutex::new(state),
            work: Notify::new(),
            chores: Notify::new(),
            projections: Notify::new(),
            jobs: Notify::new(),
            ended: Notify::new(),
            switches: watch::Sender::new(0),
            switching: tokio::sync::Mutex::default(),
        });
        shared.tell_cursors();
        shared.start_all();
        let follower = Follower {
            shared: Arc::clone(&shared),
            indexes,
        };
        // From the mark to the head: what the last boot did not say of before it ended.
        for (namespace, extent) in extents {
            follower.catch_up(&namespace, extent.head).await;
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(follow::run(follower, tail));
        tasks.spawn(fill::run(Arc::clone(&shared)));
        tasks.spawn(jobs::run(Arc::clone(&shared)));
        tasks.spawn(projections::run(Arc::clone(&shared)));
        Ok(Self::new(shared, calls, tasks))
    }
}

impl Shared {
    /// The store asks for cursors when it writes.
    fn tell_cursors(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let stand = move |id| weak.upgrade()?.state.lock().stand(id);
        self.log.set_cursors(Arc::new(stand));
    }

    /// Looks at everything once.
    fn start_all(&self) {
        let mut state = self.state.lock();
        let now = self.clock.now();
        let ids: Vec<_> = state.ranges.keys().copied().collect();
        for id in ids {
            state.note_change(&self.log, &self.shards, id);
            state.look_after(id);
        }
        let keys: Vec<_> = state.consumers.keys().cloned().collect();
        for key in keys {
            state.touch(&key, now);
        }
        self.chores.notify_one();
    }
}

/// Until when what is taken is noted durably first.
pub(crate) fn careful_until(store: &Store, clock: &Clock) -> Time {
    let careful = if store.was_clean() {
        Duration::ZERO
    } else {
        CAREFUL
    };
    clock.now() + careful
}

/// All at once, so that it is one commit.
async fn recover(store: &Store) -> Result<(), Error> {
    let (log, shards) = (store.log(), store.shards());
    let mut pending = Vec::new();
    for (stored, _) in log.subscriptions().await? {
        if let Ok(owned) = shards.owner(stored.shard) {
            pending.push(log.recover(owned, stored.id)?);
        }
    }
    for recovery in pending {
        recovery.done().await?;
        store.pass(Moment::Recovery);
    }
    Ok(())
}

/// Builds the ranges of the shards that this node owns, and the indexes to match with.
async fn load(store: &Store, state: &mut State) -> Result<HashMap<Namespace, Index>, Error> {
    let (log, shards) = (store.log(), store.shards());
    let mine: BTreeSet<_> = shards.owned().iter().map(|owned| owned.shard).collect();
    let mut indexes: HashMap<Namespace, Index> = HashMap::new();
    for (stored, cursor) in log.subscriptions().await? {
        if !mine.contains(&stored.shard) {
            continue;
        }
        let scanned = state.scanned(&stored.namespace);
        let mut range = restore(&stored, &cursor, scanned);
        let limit = u32::try_from(MAX_RETRYING).expect("is small");
        for position in cursor.passed {
            match log.event(&stored.namespace, position).await? {
                Some(logged) => range.restore_passed(logged),
                None => {
                    tracing::error!(key = %stored.key, position = position.0, "an event that waits is not in the log");
                }
            }
        }
        for (waiting, lane) in log.waiting(stored.id, limit).await? {
            let lane = lane_of(&log, &range, waiting, lane).await?;
            range.waits(waiting, lane);
        }
        if let (Some(pattern), None) = (&range.pattern, range.end) {
            let index = indexes.entry(stored.namespace.clone()).or_default();
            index.add(stored.id, pattern, stored.begin);
        }
        state.add(range);
    }
    for (_, key, count) in log.count_dead_letters().await? {
        state.consumers.entry(key).or_default().dead += count;
    }
    for (key, lane, first) in log.held_lanes().await? {
        let consumer = state.consumers.entry(key).or_default();
        consumer.held.insert(Lane(lane), first);
    }
    for (key, paused) in log.pauses().await? {
        state.consumers.entry(key).or_default().paused = Some(paused.into());
    }
    Ok(indexes)
}

/// The lane of a delivery that waits: its row has it, unless it ran when the server died.
async fn lane_of(
    log: &Log,
    range: &Range,
    waiting: Waiting,
    noted: Option<i64>,
) -> Result<Option<Lane>, Error> {
    let (None, Some(order)) = (noted, &range.order) else {
        return Ok(noted.map(Lane));
    };
    let item = log.retry_item(range.id, waiting.position).await?;
    Ok(item.map(|item| order.lane(&item.logged.event, waiting.position)))
}

/// A range as its last boot left it: behind when its cursor is before what the others have in common.
fn restore(stored: &StoredSubscription, cursor: &StoredCursor, scanned: Position) -> Range {
    let mut range = Range::new(stored, matching::compile_stored(stored), cursor.through);
    range.behind = (cursor.through < range.last(scanned)).then_some(cursor.through);
    // What is noted is not known here: to be told again costs little, and lets the log move on.
    range.noted_idle = false;
    range
}
