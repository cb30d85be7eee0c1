//! Databases of the apps themselves: where each is, and how the relays of their outboxes are doing.
//!
//! The relays are in `loops::outbox`; here is what they say, and what operators ask.

use std::{collections::BTreeMap, sync::Arc};

pub use connect::init::{Dialect, outbox as outbox_sql};
use connect::{Address, Backlog, Refusal, Refusals};
use model::{AppName, Database, Engine, Error, Name, Time, code};
use parking_lot::Mutex;
use serde::Serialize;

use crate::Platform;

/// Which database: its app, and its name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DatabaseKey {
    /// The app.
    pub app: AppName,
    /// Its name.
    pub database: Name,
}

/// What a relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayState {
    /// It has not reached the database yet.
    Starting,
    /// It publishes what comes.
    Relaying,
    /// It cannot, and tries again; `why` says what is in the way.
    Waiting,
}

/// How the relay of an outbox is doing.
#[derive(Debug, Clone, Serialize)]
pub struct OutboxStatus {
    /// Which.
    #[serde(flatten)]
    pub key: DatabaseKey,
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// Where, without credentials.
    pub place: String,
    /// The table.
    pub table: String,
    /// What the relay does.
    pub state: RelayState,
    /// Since when.
    pub since: Time,
    /// What is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Error>,
    /// The last thing that was in the way, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<(Time, Error)>,
    /// Rows that wait, as they were last counted.
    pub waiting: u64,
    /// How long the first of them has waited, in milliseconds.
    pub lag_ms: u64,
    /// Rows that were set aside because they are no events.
    pub refused: u64,
    /// Events published since the server started.
    pub sent: u64,
    /// When the last of them was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sent: Option<Time>,
    #[serde(skip)]
    oldest: Option<Time>,
}

/// How all relays are doing. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Relays(Arc<Mutex<BTreeMap<DatabaseKey, OutboxStatus>>>);

impl Relays {
    /// A relay begins.
    pub(crate) fn begin(&self, key: &DatabaseKey, database: &Database, table: &str, now: Time) {
        let status = OutboxStatus {
            key: key.clone(),
            engine: database.engine.kind(),
            place: String::new(),
            table: table.to_owned(),
            state: RelayState::Starting,
            since: now,
            why: None,
            last_error: None,
            waiting: 0,
            lag_ms: 0,
            refused: 0,
            sent: 0,
            last_sent: None,
            oldest: None,
        };
        self.0.lock().insert(key.clone(), status);
    }

    /// A relay is no more.
    pub(crate) fn end(&self, key: &DatabaseKey) {
        self.0.lock().remove(key);
    }

    pub(crate) fn at(&self, key: &DatabaseKey, place: &Address) {
        self.update(key, |status| status.place = place.to_string());
    }

    /// It publishes what comes.
    pub(crate) fn relaying(&self, key: &DatabaseKey, now: Time) {
        self.update(key, |status| {
            if status.state != RelayState::Relaying {
                (status.state, status.since, status.why) = (RelayState::Relaying, now, None);
            }
        });
    }

    /// Something is in its way. Whether that is news.
    pub(crate) fn waits(&self, key: &DatabaseKey, error: &Error, now: Time) -> bool {
        let mut news = false;
        self.update(key, |status| {
            if status.state != RelayState::Waiting {
                (status.state, status.since) = (RelayState::Waiting, now);
            }
            news = status.why.as_ref().map(|e| e.code) != Some(error.code);
            status.why = Some(error.clone());
            status.last_error = Some((now, error.clone()));
        });
        news
    }

    pub(crate) fn sent(&self, key: &DatabaseKey, count: u64, now: Time) {
        self.update(key, |status| {
            status.sent += count;
            status.last_sent = Some(now);
        });
    }

    pub(crate) fn backlog(&self, key: &DatabaseKey, backlog: Backlog) {
        self.update(key, |status| {
            status.waiting = backlog.waiting;
            status.refused = backlog.refused;
            status.oldest = backlog.oldest;
        });
    }

    fn update(&self, key: &DatabaseKey, change: impl FnOnce(&mut OutboxStatus)) {
        if let Some(status) = self.0.lock().get_mut(key) {
            change(status);
        }
    }

    fn list(&self, now: Time) -> Vec<OutboxStatus> {
        let all = self.0.lock();
        let with_lag = |status: &OutboxStatus| {
            let lag = status.oldest.filter(|_| status.waiting > 0);
            let lag_ms = lag.map_or(0, |oldest| now.since(oldest).as_millis());
            OutboxStatus {
                lag_ms: u64::try_from(lag_ms).unwrap_or(u64::MAX),
                ..status.clone()
            }
        };
        all.values().map(with_lag).collect()
    }
}

impl Platform {
    /// Every outbox, how far behind its relay is, and what is in its way.
    #[must_use]
    pub fn outboxes(&self) -> Vec<OutboxStatus> {
        self.relays().list(self.clock().now())
    }

    /// Rows of an outbox that were set aside.
    ///
    /// # Errors
    /// `NO_SUCH_DATABASE`, or what the database fails with.
    pub async fn refused_rows(
        &self,
        app: &str,
        database: &str,
        limit: u32,
    ) -> Result<Vec<Refusal>, Error> {
        let refusals = self.refusals(app, database)?;
        Ok(refusals.list(limit).await?)
    }

    /// Lets the relay have rows again that were set aside: those at `positions`, or all. How many they were.
    ///
    /// # Errors
    /// `NO_SUCH_DATABASE`, or what the database fails with.
    pub async fn retry_rows(
        &self,
        app: &str,
        database: &str,
        positions: Option<Vec<i64>>,
    ) -> Result<u64, Error> {
        Ok(self.refusals(app, database)?.retry(positions).await?)
    }

    /// Deletes rows that were set aside: those at `positions`, or all. How many they were.
    ///
    /// # Errors
    /// `NO_SUCH_DATABASE`, or what the database fails with.
    pub async fn discard_rows(
        &self,
        app: &str,
        database: &str,
        positions: Option<Vec<i64>>,
    ) -> Result<u64, Error> {
        Ok(self.refusals(app, database)?.discard(positions).await?)
    }

    fn refusals(&self, app: &str, database: &str) -> Result<Refusals, Error> {
        let live = self.apps().find(app)?;
        let found = live
            .app
            .databases
            .iter()
            .find(|(name, _)| name.as_str() == database);
        let outbox = found.and_then(|(_, database)| Some((database, database.outbox.as_ref()?)));
        let Some((database, outbox)) = outbox else {
            let known = live
                .app
                .databases
                .iter()
                .filter(|(_, database)| database.outbox.is_some());
            let known: Vec<_> = known.map(|(name, _)| name.as_str()).collect();
            let message = if known.is_empty() {
                format!("app `{app}` has no database with an outbox")
            } else {
                format!(
                    "app `{app}` has no outbox `{database}`: it has {}",
                    known.join(", ")
                )
            };
            return Err(Error::new(code::NO_SUCH_DATABASE, message));
        };
        Ok(Refusals {
            address: self.address(&live.name, database)?,
            table: outbox.table.clone(),
        })
    }

    /// Where a database of `app` is, with what is needed to get in.
    pub(crate) fn address(&self, app: &AppName, database: &Database) -> Result<Address, Error> {
        match &database.engine {
            Engine::Sqlite { workload, file } => {
                let base = workload.as_ref().map(|workload| {
                    let state = &self.deployer().state;
                    state.join(app.as_str()).join(workload.as_str())
                });
                Ok(Address::Sqlite(base.unwrap_or_default().join(file)))
            }
            Engine::Postgres { url, password } => {
                let password = match password {
                    None => None,
                    Some(name) => Some(self.deployer().secrets.get(name).ok_or_else(|| {
                        let message =
                            format!("the secret `{name}`, its password, is not set on this server");
                        Error::new(code::DATABASE_FORBIDDEN, message)
                    })?),
                };
                let password = password.as_deref().map(String::as_str);
                Ok(Address::postgres(url, password)?)
            }
        }
    }
}
