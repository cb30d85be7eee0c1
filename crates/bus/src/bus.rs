//! The handle of the bus, and what its parts share.

use std::{sync::Arc, time::Duration};

use model::{AppName, Clock, Ids, Limits, Namespace, Subscription, SubscriptionKey, Time};
use parking_lot::Mutex;
use store::{
    Store,
    log::{LogState, Retention},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{Error, calls, matching, state::State};

/// The pause after a chunk was removed: up to 25,000 events a second go.
const BREATH: Duration = Duration::from_millis(20);

/// The bus. Cheap to clone; when the last clone goes, its tasks end.
#[derive(Clone)]
pub struct Bus(pub(crate) Arc<Inner>);

/// What the handles hold.
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) calls: calls::Calls,
    _tasks: JoinSet<()>,
}

/// What handles and tasks share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) log: store::log::Log,
    pub(crate) shards: store::shards::Shards,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) limits: Limits,
    pub(crate) state: Mutex<State>,
    /// There may be something to deliver, or an earlier time to wake up at.
    pub(crate) work: Notify,
    /// There is something for the tasks: to read, to forget, to settle.
    pub(crate) chores: Notify,
    /// A projection may have a generation that is to be switched to.
    pub(crate) projections: Notify,
    /// There is a redrive or a replay.
    pub(crate) jobs: Notify,
    /// One of them moved, or ended.
    pub(crate) ended: Notify,
    /// How many switches of subscriptions were applied.
    pub(crate) switches: watch::Sender<u64>,
    pub(crate) switching: tokio::sync::Mutex<()>,
    /// Until then, what is taken is noted durably first: the last boot ended badly, perhaps because of one of these.
    pub(crate) careful_until: Time,
}

impl Bus {
    pub(crate) fn new(shared: Arc<Shared>, calls: calls::Calls, tasks: JoinSet<()>) -> Self {
        Self(Arc::new(Inner {
            shared,
            calls,
            _tasks: tasks,
        }))
    }

    /// Says which subscriptions `app` has from now on. A subscription with the same key and filter goes on where it is;
    /// one that is missing gets nothing that is published from now on, and still what was published before; a new one,
    /// also one that comes back or has another filter, gets what is published from now on. Saying the same again
    /// changes nothing. Another key of order is like another filter; what is ordered waits for what it had before.
    ///
    /// # Errors
    /// [`Error::BadFilter`], [`Error::BadOrder`], [`Error::BadInput`] before anything changed; those of the store.
    pub async fn set_subscriptions(
        &self,
        namespace: &Namespace,
        app: &AppName,
        subscriptions: Vec<(SubscriptionKey, Subscription)>,
    ) -> Result<(), Error> {
        for (key, subscription) in &subscriptions {
            matching::compile(key, &subscription.filter)?;
            if let Some(order) = &subscription.order {
                pattern::Path::parse(&order.key).map_err(|reason| Error::BadOrder {
                    key: key.clone(),
                    reason,
                })?;
            }
            if let Some(input) = &subscription.input {
                pattern::Input::compile(input).map_err(|reason| Error::BadInput {
                    key: key.clone(),
                    reason,
                })?;
            }
        }
        let shared = &self.0.shared;
        let _one_at_a_time = shared.switching.lock().await;
        let mut switches = shared.switches.subscribe();
        let before = *switches.borrow_and_update();
        let wanted = subscriptions.into_iter().collect();
        shared.log.switch(namespace, app, wanted).await?;
        let applied = switches.wait_for(|applied| *applied > before).await;
        applied.map(|_| ()).map_err(|_| store::Error::Closed.into())
    }

    /// Says how long the events of an app are kept; `None`: as is usual.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn keep(
        &self,
        namespace: &Namespace,
        app: &AppName,
        keep: Option<Retention>,
    ) -> Result<(), Error> {
        Ok(self.0.shared.log.keep(namespace, app, keep).await?)
    }

    /// What there is of each log, whose it is, and who still needs some of it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn logs(&self) -> Result<Vec<LogState>, Error> {
        Ok(self.0.shared.log.states().await?)
    }

    /// Removes what is beyond retention: events, results of calls, blobs. Call it every few seconds; it may be dropped at any
    /// time. Chunk by chunk, with a pause after each in which others write.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn retain(&self) -> Result<(), Error> {
        let shared = &self.0.shared;
        // How far subscriptions are is written with company: here is some.
        shared.store.flush().await?;
        for (namespace, _) in shared.log.extents().await? {
            while shared
                .log
                .retain(&namespace, Retention::default())
                .await?
                .more
            {
                shared.clock.sleep(BREATH).await;
            }
        }
        shared.store.calls().purge(calls::KEPT).await?;
        shared.store.blobs().sweep().await?;
        Ok(())
    }

    /// Durable asynchronous invocations.
    #[must_use]
    pub fn calls(&self) -> calls::Calls {
        self.0.calls.clone()
    }
}

impl Shared {
    /// Wakes who waits for work when `wanted`.
    pub(crate) fn wake(&self, wanted: bool) {
        if wanted {
            self.work.notify_waiters();
        }
    }
}
