//! Errands: what one room's commit caused in another, taken from the outbox and gone on until it went well, or for a
//! day. What an errand does may be done again after a crash, so it is recognised when it is repeated.

use std::time::Duration;

use bus::Calls;
use futures_util::future::BoxFuture;
use model::{Error, Time};
use store::outbox::Work;
use tokio::sync::watch;

use super::stopped;
use crate::Platform;

/// How often the outbox is looked at when nobody said that there is something.
const LOOK: Duration = Duration::from_secs(5);
/// Attempts: about a day with waits that double up to an hour.
const ATTEMPTS: u32 = 30;

/// How an attempt ended.
pub(super) enum Went {
    /// It is done.
    Well,
    /// It is tried again later, or given up.
    Badly(Error),
}

impl From<Result<(), Error>> for Went {
    fn from(result: Result<(), Error>) -> Self {
        result.map_or_else(Self::Badly, |()| Self::Well)
    }
}

type Go = for<'a> fn(&'a Platform, &'a Work, Time) -> BoxFuture<'a, Result<Went, Error>>;

/// A kind of errand.
pub(super) struct Errand {
    /// Its kind in the outbox.
    pub(super) kind: &'static str,
    /// What it is, for the log.
    pub(super) what: &'static str,
    /// Resolves when there may be one more.
    pub(super) next: for<'a> fn(&'a Calls) -> BoxFuture<'a, ()>,
    /// One attempt; an error is the platform's own, and uses up none.
    pub(super) go: Go,
}

impl Errand {
    /// Goes on errands of this kind until it is told to stop.
    pub(super) async fn run(self, platform: Platform, mut stop: watch::Receiver<bool>) {
        let calls = platform.bus().calls();
        loop {
            let wait = self.work_off(&platform).await;
            tokio::select! {
                () = (self.next)(&calls) => {}
                () = platform.clock().sleep(wait) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// Does what is due, and says how long nothing will be.
    async fn work_off(&self, platform: &Platform) -> Duration {
        loop {
            let work = match platform.store().outbox().next(self.kind, 16).await {
                Ok(work) => work,
                Err(error) => {
                    tracing::error!(%error, "the outbox cannot be read");
                    return LOOK;
                }
            };
            let now = platform.clock().now();
            let Some(first) = work.first() else {
                return LOOK;
            };
            if first.due > now {
                return first.due.since(now).min(LOOK);
            }
            for item in work.iter().filter(|item| item.due <= now) {
                if let Err(error) = self.attempt(platform, item, now).await {
                    let what = self.what;
                    tracing::error!(%error, key = item.key, "{what} could not go out; it will be tried again");
                    return LOOK;
                }
            }
        }
    }

    async fn attempt(&self, platform: &Platform, work: &Work, now: Time) -> Result<(), Error> {
        let (what, key) = (self.what, &work.key);
        let outbox = platform.store().outbox();
        match (self.go)(platform, work, now).await? {
            Went::Well => outbox.done(work.id).await?,
            Went::Badly(error) if work.attempts >= ATTEMPTS => {
                tracing::error!(%error, key, "{what} was given up");
                outbox.done(work.id).await?;
            }
            Went::Badly(error) => {
                tracing::info!(%error, key, "{what} was not taken; it will be tried again");
                let wait = Duration::from_secs(1 << work.attempts.min(11));
                let wait = wait.min(Duration::from_secs(3600));
                outbox.later(work.id, wait).await?;
            }
        }
        Ok(())
    }
}
