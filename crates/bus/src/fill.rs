//! What the bus does beside: reads the log for ranges that are behind, forgets ranges that are over, and settles
//! deliveries that were dropped without a word.

use std::{sync::Arc, time::Duration};

use model::{Error as Fault, Namespace, Position, code};
use pattern::Pattern;
use store::log::{Logged, SubscriptionId};

use crate::{bus::Shared, delivery::Settled};

/// Events read at once.
const READ: u32 = 500;
/// How long to wait after the store could not be read or written.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// Runs until it is aborted.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let wanted = shared.chores.notified();
        settle_abandoned(&shared).await;
        finish_over(&shared).await;
        let next = shared.state.lock().fills.pop_front();
        match next {
            Some(id) => fill(&shared, id).await,
            None => wanted.await,
        }
    }
}

async fn settle_abandoned(shared: &Arc<Shared>) {
    let abandoned = std::mem::take(&mut shared.state.lock().abandoned);
    for one in abandoned {
        let error = Fault::new(code::INTERNAL, "the attempt was dropped before it ended");
        if let Err(error) = shared.settle(&one, Settled::Retry(error)).await {
            tracing::warn!(%error, key = %one.key, "a dropped delivery waits for the next start");
        }
    }
}

async fn finish_over(shared: &Arc<Shared>) {
    let over = std::mem::take(&mut shared.state.lock().over);
    for id in over {
        let shard = shared.state.lock().ranges.get(&id).map(|range| range.shard);
        let Some(Ok(owned)) = shard.map(|shard| shared.shards.owner(shard)) else {
            continue;
        };
        match shared.log.finish(owned, id).await {
            Ok(()) => {
                let mut state = shared.state.lock();
                let key = state.ranges.get(&id).map(|range| range.key.clone());
                state.remove(id);
                // One that follows it may go on.
                let wake = key.is_some_and(|key| state.touch(&key, shared.clock.now()));
                drop(state);
                shared.wake(wake);
            }
            Err(error) => {
                tracing::warn!(%error, "an ended subscription stays until the next start")
            }
        }
    }
}

/// What to read for a range.
struct Wanted {
    namespace: Namespace,
    pattern: Option<Arc<Pattern>>,
    after: Position,
    through: Position,
}

/// Reads one chunk for a range that is behind, and for all others that want it; each comes back when it wants more.
async fn fill(shared: &Arc<Shared>, id: SubscriptionId) {
    let Some(wanted) = wanted(shared, id) else {
        return;
    };
    let Wanted {
        namespace,
        pattern,
        after,
        through,
    } = wanted;
    match shared.log.range(&namespace, after, through, READ).await {
        Ok(events) => {
            let read = events.last().map_or(through, |last| last.position);
            let events: Vec<_> = events.into_iter().map(Arc::new).collect();
            let others = shared.state.lock().fills_of(&namespace, after..read);
            for (id, pattern) in std::iter::once((id, pattern)).chain(others) {
                let matching = events
                    .iter()
                    .filter(|logged| matches(pattern.as_ref(), logged));
                hand_over(shared, id, matching.cloned().collect(), read);
            }
        }
        Err(error) => {
            tracing::error!(%error, "the log cannot be read for a subscription; trying again");
            shared.state.lock().fills.push_back(id);
            shared.clock.sleep(PAUSE).await;
        }
    }
}

fn wanted(shared: &Shared, id: SubscriptionId) -> Option<Wanted> {
    let state = shared.state.lock();
    let range = state.ranges.get(&id)?;
    Some(Wanted {
        namespace: range.namespace.clone(),
        pattern: range.pattern.clone(),
        after: range.behind?,
        through: range.last(state.scanned(&range.namespace)),
    })
}

fn matches(pattern: Option<&Arc<Pattern>>, logged: &Logged) -> bool {
    pattern.is_some_and(|pattern| pattern.matches_event(&logged.event))
}

fn hand_over(shared: &Shared, id: SubscriptionId, matching: Vec<Arc<Logged>>, through: Position) {
    let mut state = shared.state.lock();
    let Some(namespace) = state.ranges.get(&id).map(|range| range.namespace.clone()) else {
        return;
    };
    let scanned = state.scanned(&namespace);
    let Some(range) = state.ranges.get_mut(&id) else {
        return;
    };
    range.filling = false;
    range.fill(matching, through, scanned);
    let key = range.key.clone();
    state.note_change(&shared.log, &shared.shards, id);
    state.look_after(id);
    let wake = state.touch(&key, shared.clock.now());
    drop(state);
    shared.wake(wake);
}
