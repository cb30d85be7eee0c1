//! Looking at what is in the log and what is subscribed: for those who want to know, not for delivery.

use model::{EventFilter, Namespace, Position, SubscriptionKey};
use store::log::Logged;

use crate::{Bus, Error};

/// Events read at once.
const READ: u32 = 500;
/// How many of the newest events are looked through for an id, which the log has no index of.
const MOST: u64 = 100_000;

impl Bus {
    /// The event at a position, when the log still has it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn event_at(
        &self,
        namespace: &Namespace,
        at: Position,
    ) -> Result<Option<Logged>, Error> {
        Ok(self.0.shared.log.event(namespace, at).await?)
    }

    /// The newest event with an id, of any source unless one is named, among the newest 100,000.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn find_event(
        &self,
        namespace: &Namespace,
        id: &str,
        source: Option<&str>,
    ) -> Result<Option<Logged>, Error> {
        let log = &self.0.shared.log;
        let Some(extent) = log.extent(namespace).await? else {
            return Ok(None);
        };
        let wanted = |logged: &Logged| {
            logged.event.id == id && source.is_none_or(|source| logged.event.source == source)
        };
        let first = extent.head.0.saturating_sub(MOST);
        let mut end = extent.head.0;
        while end > first {
            let begin = first.max(end.saturating_sub(u64::from(READ)));
            // A chunk of large events comes in several answers.
            let (mut after, mut found) = (Position(begin), None);
            loop {
                let events = log.range(namespace, after, Position(end), READ).await?;
                let Some(last) = events.last() else { break };
                after = last.position;
                found = events.into_iter().rfind(wanted).or(found);
            }
            if found.is_some() {
                return Ok(found);
            }
            end = begin;
        }
        Ok(None)
    }

    /// What a living subscription asks for.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn filter_of(
        &self,
        namespace: &Namespace,
        key: &SubscriptionKey,
    ) -> Result<Option<EventFilter>, Error> {
        let all = self.0.shared.log.subscriptions().await?;
        let mut all = all.into_iter().map(|(stored, _)| stored);
        let lives = all.find(|stored| {
            stored.end.is_none() && stored.namespace == *namespace && stored.key == *key
        });
        Ok(lives.map(|stored| stored.spec.filter))
    }
}
