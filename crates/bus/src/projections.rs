//! Projections: read models that are fed from the beginning of the log. Which generations each has, how far behind they
//! are, and the switch to a new one as soon as it has had all that the live one has had.

use std::{sync::Arc, time::Duration};

use model::{
    Cause, Namespace, Position, Principal, SubscriptionKey, Time, TraceContext,
    projection::Switching,
};
use serde::Serialize;
use store::log::{StoredGeneration, StoredProjection, What};

use crate::{Bus, Error, bus::Shared, fill::PAUSE, stats};

/// How often it is looked whether a new generation has caught up.
const LOOK: Duration = Duration::from_millis(100);

/// One projection, as operators and readers want to see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Projection {
    /// Which: `app/workload/name`.
    #[serde(serialize_with = "crate::dead_letters::as_text")]
    pub projection: SubscriptionKey,
    /// The generation that readers use.
    pub live: u32,
    /// Who makes a new one live.
    pub switch: Switching,
    /// Those that are fed, ascending.
    pub generations: Vec<Generation>,
}

/// One generation, and how far behind it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generation {
    /// Its number, from 1.
    pub generation: u32,
    /// What it is for.
    pub state: State,
    /// The subscription that feeds it.
    #[serde(serialize_with = "crate::dead_letters::as_text")]
    pub subscription: SubscriptionKey,
    /// Everything up to this position was applied.
    pub position: Position,
    /// Events that were not. While it is far behind, what the log has beyond its window is counted whether it matches or
    /// not.
    pub lag_events: u64,
    /// How long the first of those has been in the log, in seconds.
    pub lag_seconds: f64,
    /// When it was begun.
    pub begun_at: Time,
    /// Some events up to this position were no longer in the log when it was begun: it never had them.
    pub missing_through: Position,
    /// Events that it left out: they are dead letters.
    pub dead: u64,
    /// Why nothing is delivered for now.
    pub waiting_on: Option<String>,
    /// Since when that is the reason.
    pub waiting_since: Option<Time>,
}

/// What a generation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Readers use it.
    Live,
    /// It is the newest, and was not live yet.
    Building,
    /// It was live, or was overtaken by a newer one; it is fed until it is dropped.
    Former,
}

impl Bus {
    /// All projections, by key.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn projections(&self) -> Result<Vec<Projection>, Error> {
        let shared = &self.0.shared;
        let mut all = Vec::new();
        for stored in shared.log.projections().await? {
            all.push(shared.projection(stored).await?);
        }
        Ok(all)
    }

    /// Begins a new generation beside the live one and feeds it from the log; its number. `partial`: even when the log has
    /// lost some of its beginning.
    ///
    /// # Errors
    /// [`Error::NoSuchProjection`]; [`Error::ProjectionConflict`] while one is being built; [`Error::EventsGone`]; those of the
    /// store.
    pub async fn rebuild(
        &self,
        key: &SubscriptionKey,
        partial: bool,
        by: &str,
    ) -> Result<u32, Error> {
        let number = self.change(key, What::Rebuild(partial), by).await?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// Makes a generation the one that readers use; whether it was another one before.
    ///
    /// # Errors
    /// [`Error::NoSuchProjection`], those of the store.
    pub async fn switch(
        &self,
        key: &SubscriptionKey,
        number: u32,
        by: &str,
    ) -> Result<bool, Error> {
        let switched = self.0.shared.change(key, What::Switch(number), by).await?;
        Ok(switched > 0)
    }

    /// Ends the feed of a generation that is not live, with all that it has left to do.
    ///
    /// # Errors
    /// [`Error::NoSuchProjection`]; [`Error::ProjectionConflict`] when it is live; those of the store.
    pub async fn drop_generation(
        &self,
        key: &SubscriptionKey,
        number: u32,
        by: &str,
    ) -> Result<(), Error> {
        self.change(key, What::Drop(number), by).await.map(|_| ())
    }

    /// A change of which subscriptions there are: it is applied when this returns.
    async fn change(&self, key: &SubscriptionKey, what: What, by: &str) -> Result<u64, Error> {
        let shared = &self.0.shared;
        let _one_at_a_time = shared.switching.lock().await;
        let mut switches = shared.switches.subscribe();
        let before = *switches.borrow_and_update();
        let answer = shared.change(key, what, by).await?;
        let applied = switches.wait_for(|applied| *applied > before).await;
        applied.map_err(|_| store::Error::Closed)?;
        Ok(answer)
    }
}

/// Runs until it is aborted.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let told = shared.projections.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        let wait = match shared.switch_what_caught_up().await {
            Ok(true) => Some(LOOK),
            Ok(false) => None,
            Err(Error::Store(store::Error::Closed)) => return,
            Err(error) => {
                tracing::error!(%error, "a projection cannot be looked at; trying again");
                Some(PAUSE)
            }
        };
        match wait {
            None => told.await,
            Some(wait) => tokio::select! {
                () = told => {}
                () = shared.clock.sleep(wait) => {}
            },
        }
    }
}

impl Shared {
    async fn change(&self, key: &SubscriptionKey, what: What, by: &str) -> Result<u64, Error> {
        let trace = TraceContext::root(self.ids.random());
        let cause = Cause::first(vec![Principal::Operator], trace);
        let namespace = Namespace::default_namespace();
        let changed = self.log.projection(&namespace, key, what, by, cause);
        changed.await.map_err(|error| match error {
            store::Error::NotFound(what) => Error::NoSuchProjection {
                what,
                key: key.to_string(),
            },
            store::Error::Conflict(why) => Error::ProjectionConflict(why),
            store::Error::Gone(through) => Error::EventsGone {
                key: key.clone(),
                through,
            },
            other => other.into(),
        })
    }

    /// Switches to each newest generation that has had everything which the live one has had, and all that there was when
    /// it was begun. Whether one is still behind.
    async fn switch_what_caught_up(&self) -> Result<bool, Error> {
        let mut behind = false;
        for projection in self.log.projections().await? {
            let newest = projection.generations.last();
            let newest =
                newest.filter(|newest| !newest.switched && projection.switch == Switching::Auto);
            let Some(newest) = newest else { continue };
            if !self.has_caught_up(&projection, newest) {
                behind = true;
                continue;
            }
            let what = What::Switch(newest.number);
            self.change(&projection.key, what, "tangelo").await?;
            tracing::info!(projection = %projection.key, generation = newest.number, "a new generation is live");
        }
        Ok(behind)
    }

    fn has_caught_up(&self, projection: &StoredProjection, newest: &StoredGeneration) -> bool {
        let Some(applied) = self.applied(newest) else {
            return false;
        };
        let live = projection
            .generations
            .iter()
            .find(|generation| generation.number == projection.live);
        let live = live.and_then(|live| self.applied(live));
        applied >= newest.head && live.is_none_or(|live| applied >= live)
    }

    /// How far a generation is; `None`: it is not in memory.
    fn applied(&self, generation: &StoredGeneration) -> Option<Position> {
        let state = self.state.lock();
        let range = state.ranges.get(&generation.subscription)?;
        Some(range.applied(state.scanned(&range.namespace)))
    }

    async fn projection(&self, stored: StoredProjection) -> Result<Projection, Error> {
        let newest = stored.generations.last().map(|newest| newest.number);
        let mut generations = Vec::with_capacity(stored.generations.len());
        for one in &stored.generations {
            let state = match () {
                () if one.number == stored.live => State::Live,
                () if Some(one.number) == newest && !one.switched => State::Building,
                () => State::Former,
            };
            let subscription = stored.key.generation(one.number);
            let (position, stats) = {
                let bus = self.state.lock();
                let range = bus.ranges.get(&one.subscription);
                let position = range.map(|range| range.applied(bus.scanned(&range.namespace)));
                let known = bus.consumers.contains_key(&subscription);
                (position, known.then(|| stats::stats(&bus, &subscription)))
            };
            let Some((position, stats)) = position.zip(stats) else {
                continue;
            };
            let lag = stats.backlog + stats.in_flight + stats.retrying;
            let first = match lag {
                0 => None,
                _ => {
                    self.log
                        .published_after(&stored.namespace, position)
                        .await?
                }
            };
            let waits = first.map(|at| self.clock.now().since(at));
            generations.push(Generation {
                generation: one.number,
                state,
                subscription,
                position,
                lag_events: lag,
                lag_seconds: waits.unwrap_or_default().as_secs_f64(),
                begun_at: one.begun,
                missing_through: one.gone,
                dead: stats.dead,
                waiting_on: stats.waiting_on,
                waiting_since: stats.waiting_since,
            });
        }
        Ok(Projection {
            projection: stored.key,
            live: stored.live,
            switch: stored.switch,
            generations,
        })
    }
}
