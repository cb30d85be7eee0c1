//! Pausing subscriptions: durable, over deploys and restarts. What runs goes on; nothing more is taken, and what waits
//! uses up no attempt.

use model::SubscriptionKey;
use store::log::StoredPause;

use crate::{Bus, Error, Paused};

impl From<StoredPause> for Paused {
    fn from(stored: StoredPause) -> Self {
        Self {
            since: stored.since,
            by: stored.by,
            reason: stored.reason,
        }
    }
}

impl Bus {
    /// Takes nothing more of a subscription until it is resumed; durable when this returns. Pausing what is paused
    /// changes who and why, and not since when.
    ///
    /// # Errors
    /// [`Error::NoSuchSubscription`], those of the store.
    pub async fn pause(
        &self,
        key: &SubscriptionKey,
        by: &str,
        reason: Option<&str>,
    ) -> Result<Paused, Error> {
        self.exists(key)?;
        let shared = &self.0.shared;
        let reason = reason.map(str::to_owned);
        let stored = shared.log.pause(key, by.to_owned(), reason).await?;
        let paused = Paused::from(stored);
        let now = shared.clock.now();
        let mut state = shared.state.lock();
        state.set_paused(key, Some(paused.clone()), now);
        Ok(paused)
    }

    /// Lets a paused subscription go on; says whether it was paused.
    ///
    /// # Errors
    /// [`Error::NoSuchSubscription`], those of the store.
    pub async fn resume(&self, key: &SubscriptionKey, by: &str) -> Result<bool, Error> {
        let shared = &self.0.shared;
        if shared.log.resume(key, by.to_owned()).await? {
            let now = shared.clock.now();
            let wake = shared.state.lock().set_paused(key, None, now);
            shared.wake(wake);
            return Ok(true);
        }
        self.exists(key).map(|()| false)
    }

    fn exists(&self, key: &SubscriptionKey) -> Result<(), Error> {
        let state = self.0.shared.state.lock();
        let known = state.consumers.get(key);
        let known = known.is_some_and(|consumer| !consumer.ranges.is_empty());
        known
            .then_some(())
            .ok_or_else(|| Error::NoSuchSubscription(key.clone()))
    }
}
