//! Subscriptions that no loop delivers: somebody comes for what they have. The terms are those of all others; what was
//! handed out is in flight until it is settled.

use model::{SubscriptionKey, Time};

use crate::{Bus, Delivery, Error, bus::Shared};

impl Bus {
    /// Up to `most` deliveries of a subscription that is pulled. When it has none it is waited for, until `until`; empty:
    /// there was none.
    ///
    /// # Errors
    /// [`Error::NoSuchSubscription`], [`Error::NotPulled`].
    pub async fn pull(
        &self,
        key: &SubscriptionKey,
        most: usize,
        until: Time,
    ) -> Result<Vec<Delivery>, Error> {
        let shared = &self.0.shared;
        loop {
            let work = shared.work.notified();
            tokio::pin!(work);
            work.as_mut().enable();
            let taken = shared.hand_out(key, most).await?;
            let now = shared.clock.now();
            if !taken.is_empty() || now >= until {
                return Ok(taken);
            }
            let due = shared.state.lock().timer_of(key);
            let next = due.unwrap_or(until).min(until);
            tokio::select! {
                () = work => {}
                () = shared.clock.sleep_until(next) => {}
            }
        }
    }
}

impl Shared {
    async fn hand_out(
        self: &std::sync::Arc<Self>,
        key: &SubscriptionKey,
        most: usize,
    ) -> Result<Vec<Delivery>, Error> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let now = self.clock.now();
            let offers = self.state.lock().offers(key, now);
            if !offers.ok_or_else(|| self.not_pulled(key))? {
                break;
            }
            let one = self.take(key, false).await;
            if one.is_empty() {
                break;
            }
            let wake = self.state.lock().taken_from(key, now, one.len());
            self.wake(wake);
            taken.extend(one);
        }
        if !taken.is_empty() && self.clock.now() < self.careful_until {
            // As for what is delivered: see `Bus::take`.
            self.store.flush().await.ok();
        }
        Ok(taken)
    }

    fn not_pulled(&self, key: &SubscriptionKey) -> Error {
        let known = self.state.lock().consumers.contains_key(key);
        match known {
            true => Error::NotPulled(key.clone()),
            false => Error::NoSuchSubscription(key.clone()),
        }
    }
}
