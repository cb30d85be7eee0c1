//! Databases of the apps themselves: where each is, and how the relays of their outboxes and captured changes are doing.
//!
//! The relays are in `loops::relay`; here is what they say, and what operators ask.

use std::{collections::BTreeMap, sync::Arc};

pub use connect::init::{Dialect, outbox as outbox_sql};
use connect::{Address, Backlog, Capture, Refusal, Refusals, TableStatus};
use model::{AppName, Database, Engine, Error, Name, Time, code};
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::Platform;

/// Bytes of its log that a server keeps for a slot, from which on it is warned of.
const MUCH: u64 = 1 << 30;

/// Which relay: of what of which database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RelayKey {
    /// The app.
    pub app: AppName,
    /// The database's name in it.
    pub database: Name,
    /// What it takes from there.
    pub kind: RelayKind,
}

/// What a relay takes from a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayKind {
    /// Rows of an outbox.
    Outbox,
    /// Changes of tables.
    Capture,
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

/// How a relay is doing.
#[derive(Debug, Clone, Serialize)]
pub struct RelayStatus {
    /// Which.
    #[serde(flatten)]
    pub key: RelayKey,
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
    /// Bytes of its log that a Postgres server keeps for the slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained_bytes: Option<u64>,
    /// What somebody should look at although nothing is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    #[serde(skip)]
    oldest: Option<Time>,
}

impl RelayStatus {
    fn new(key: &RelayKey, engine: &'static str, table: &str, now: Time) -> Self {
        Self {
            key: key.clone(),
            engine,
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
            retained_bytes: None,
            warning: None,
            oldest: None,
        }
    }
}

/// How all relays are doing. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Relays(Arc<Mutex<BTreeMap<RelayKey, RelayStatus>>>, Arc<Notify>);

impl Relays {
    /// A relay begins.
    pub(crate) fn begin(&self, key: &RelayKey, database: &Database, table: &str, now: Time) {
        let status = RelayStatus::new(key, database.engine.kind(), table, now);
        self.0.lock().insert(key.clone(), status);
    }

    /// A relay is no more.
    pub(crate) fn end(&self, key: &RelayKey) {
        self.0.lock().remove(key);
    }

    pub(crate) fn at(&self, key: &RelayKey, place: &Address) {
        self.update(key, |status| status.place = place.to_string());
    }

    /// It publishes what comes.
    pub(crate) fn relaying(&self, key: &RelayKey, now: Time) {
        self.update(key, |status| {
            if status.state != RelayState::Relaying {
                (status.state, status.since, status.why) = (RelayState::Relaying, now, None);
            }
        });
    }

    /// Something is in its way. Whether that is news.
    pub(crate) fn waits(&self, key: &RelayKey, error: &Error, now: Time) -> bool {
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

    pub(crate) fn sent(&self, key: &RelayKey, count: u64, now: Time) {
        self.update(key, |status| {
            status.sent += count;
            status.last_sent = Some(now);
        });
    }

    /// Notes what waits. A warning, when it is new.
    pub(crate) fn backlog(&self, key: &RelayKey, backlog: Backlog) -> Option<String> {
        let mut news = None;
        self.update(key, |status| {
            let much = backlog.retained.filter(|bytes| *bytes >= MUCH);
            let warning = much.map(|bytes| {
                let tenths = (u128::from(bytes) * 10) >> 30;
                format!(
                    "the server keeps {}.{} GiB of its log for the slot `{}`",
                    tenths / 10,
                    tenths % 10,
                    status.table
                )
            });
            if status.warning.is_none() {
                news.clone_from(&warning);
            }
            status.warning = warning;
            status.retained_bytes = backlog.retained;
            status.waiting = backlog.waiting;
            status.refused = backlog.refused;
            status.oldest = backlog.oldest;
        });
        news
    }

    /// Whoever waits tries again now.
    pub(crate) fn nudge(&self) {
        self.1.notify_waiters();
    }

    /// Resolves when somebody has cleared what may be in the way.
    pub(crate) async fn nudged(&self) {
        self.1.notified().await;
    }

    fn update(&self, key: &RelayKey, change: impl FnOnce(&mut RelayStatus)) {
        if let Some(status) = self.0.lock().get_mut(key) {
            change(status);
        }
    }

    fn list(&self, now: Time) -> Vec<RelayStatus> {
        let all = self.0.lock();
        let with_lag = |status: &RelayStatus| {
            let lag = status.oldest.filter(|_| status.waiting > 0);
            let lag_ms = lag.map_or(0, |oldest| now.since(oldest).as_millis());
            RelayStatus {
                lag_ms: u64::try_from(lag_ms).unwrap_or(u64::MAX),
                ..status.clone()
            }
        };
        all.values().map(with_lag).collect()
    }
}

/// The name of slot and publication of a database's captured changes: at most 63 of a-z, 0-9 and `_`.
pub(crate) fn slot(app: &AppName, database: &Name) -> String {
    let whole = format!("tangelo_{app}_{database}").replace('-', "_");
    // Dashes and underlines look the same there, and long names are cut: what differs has a name of its own.
    if whole.len() <= 63 && !app.as_str().contains('-') && !database.as_str().contains('-') {
        return whole;
    }
    let hash = Sha256::digest(format!("{app}/{database}"));
    let hash: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let end = whole.len().min(54);
    format!("{}_{hash}", &whole[..end])
}

impl Platform {
    /// Every outbox, how far behind its relay is, and what is in its way.
    #[must_use]
    pub fn outboxes(&self) -> Vec<RelayStatus> {
        self.relays_of(RelayKind::Outbox)
    }

    /// Every database whose changes are captured, likewise.
    #[must_use]
    pub fn captures(&self) -> Vec<RelayStatus> {
        self.relays_of(RelayKind::Capture)
    }

    fn relays_of(&self, kind: RelayKind) -> Vec<RelayStatus> {
        let mut all = self.relays().list(self.clock().now());
        all.retain(|status| status.key.kind == kind);
        all
    }

    /// How each captured table of a database is captured.
    ///
    /// # Errors
    /// `NO_SUCH_DATABASE`, or what the database fails with.
    pub async fn capture_status(
        &self,
        app: &str,
        database: &str,
    ) -> Result<Vec<TableStatus>, Error> {
        Ok(self.capture(app, database)?.status().await?)
    }

    /// Makes what captures the tables of a database.
    ///
    /// # Errors
    /// `NO_SUCH_DATABASE`, or what the database fails with.
    pub async fn capture_init(&self, app: &str, database: &str) -> Result<Vec<TableStatus>, Error> {
        let made = self.capture(app, database)?.init().await?;
        self.relays().nudge();
        Ok(made)
    }

    /// Takes away what captures the tables of a database; how much was not relayed.
    ///
    /// # Errors
    /// `NO_SUCH_DATABASE`, or what the database fails with: a slot that is read cannot go.
    pub async fn capture_drop(&self, app: &str, database: &str) -> Result<u64, Error> {
        Ok(self.capture(app, database)?.drop().await?)
    }

    fn capture(&self, app: &str, database: &str) -> Result<Capture, Error> {
        let live = self.apps().find(app)?;
        let found = live.app.databases.iter();
        let found =
            found.filter_map(|(name, database)| Some((name, database, database.capture.as_ref()?)));
        let all: Vec<_> = found.collect();
        let one = all.iter().find(|(name, ..)| name.as_str() == database);
        let Some((name, database, capture)) = one else {
            let known: Vec<_> = all.iter().map(|(name, ..)| name.as_str()).collect();
            let message = if known.is_empty() {
                format!("app `{app}` has no database whose changes are captured")
            } else {
                format!(
                    "app `{app}` captures no changes of `{database}`, but of {}",
                    known.join(", ")
                )
            };
            return Err(Error::new(code::NO_SUCH_DATABASE, message));
        };
        Ok(Capture {
            address: self.address(&live.name, database)?,
            tables: capture.tables.clone(),
            slot: slot(&live.name, name),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_keeps_much_for_a_slot_is_warned_of_once() {
        let relays = Relays::default();
        let (app, database) = (Name::literal("a"), Name::literal("d"));
        let key = RelayKey {
            app,
            database,
            kind: RelayKind::Capture,
        };
        let status = RelayStatus::new(&key, "postgres", "tangelo_a_d", Time(0));
        relays.0.lock().insert(key.clone(), status);
        let keeps = |bytes| {
            let backlog = Backlog {
                retained: Some(bytes),
                ..Backlog::default()
            };
            let news = relays.backlog(&key, backlog);
            (news, relays.0.lock()[&key].warning.clone())
        };
        assert_eq!(keeps((1 << 30) - 1), (None, None));
        let told =
            Some("the server keeps 1.0 GiB of its log for the slot `tangelo_a_d`".to_owned());
        assert_eq!(keeps(1 << 30), (told.clone(), told.clone()));
        let more =
            Some("the server keeps 2.5 GiB of its log for the slot `tangelo_a_d`".to_owned());
        assert_eq!(keeps(5 << 29), (None, more));
        assert_eq!(keeps(1), (None, None));
        assert_eq!(keeps(1 << 30), (told.clone(), told));
    }

    #[test]
    fn slots_have_names_of_their_own() {
        let name = |app: &'static str, database: &'static str| {
            slot(&Name::literal(app), &Name::literal(database))
        };
        assert_eq!(name("shop", "orders"), "tangelo_shop_orders");
        assert_ne!(name("a-b", "c"), name("a", "b-c"));
        let long = "a23456789-123456789-123456789-123456789-123456789-123456789-123";
        assert!(name(long, long).len() <= 63);
        assert!(
            name("a-b", "c")
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        );
    }
}
