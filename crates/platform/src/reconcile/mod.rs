//! Reconciliations: two lists of rows that are to say the same are compared, what differs is noted durably, and each difference
//! is handed to a workload that repairs it, once until it changes.
//!
//! Handing is an asynchronous invocation whose id follows from the difference: a crash between it and the note repeats it under the
//! same id, which changes nothing.

mod compare;
mod sources;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
pub use compare::{Difference, Kind};
use model::{AppName, Error, InvocationId, Name, Time, Trigger, code, reconcile::Reconciliation};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::reconcile::{Difference as Stored, Found};
use tokio::sync::Notify;

use crate::{Platform, apps::LiveApp};

/// Differences of one sweep that are kept and handed; more are counted.
const MOST: usize = 10_000;

/// Which reconciliation: its app, and its name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ReconciliationKey {
    /// The app.
    pub app: AppName,
    /// Its name.
    pub name: Name,
}

/// How a reconciliation is doing.
#[derive(Debug, Clone, Serialize)]
pub struct ReconciliationStatus {
    /// Which.
    #[serde(flatten)]
    pub key: ReconciliationKey,
    /// How often it is swept, in milliseconds.
    pub every_ms: u64,
    /// Who repairs.
    pub repair: Option<Name>,
    /// The last sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Sweep>,
    /// When the next one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
}

/// What a sweep came to.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// When it ended.
    pub at: Time,
    /// Rows on the left and on the right.
    pub rows: (usize, usize),
    /// Differences.
    pub differences: usize,
    /// Those that were handed to repair now.
    pub handed: usize,
    /// Those of earlier sweeps that are gone.
    pub resolved: u64,
    /// Why there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// A difference with its history.
#[derive(Debug, Clone, Serialize)]
pub struct Known {
    /// What differs.
    #[serde(flatten)]
    pub difference: Difference,
    /// When it was first found with this content.
    pub found_at: Time,
    /// When it was handed to repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handed_at: Option<Time>,
    /// Under which invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
}

/// When each is swept next, and what the last sweep came to. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Sweeps {
    all: Arc<Mutex<BTreeMap<ReconciliationKey, Entry>>>,
    /// One sweep at a time: what one has found another is not to find again before it is noted.
    turn: Arc<tokio::sync::Mutex<()>>,
    pub(crate) changed: Arc<Notify>,
}

#[derive(Clone, Default)]
struct Entry {
    last: Option<Sweep>,
    next: Option<Time>,
}

impl Sweeps {
    /// Forgets when those were swept that are declared no more.
    pub(crate) fn keep_only(&self, declared: &BTreeMap<ReconciliationKey, Reconciliation>) {
        let mut all = self.all.lock();
        all.retain(|key, _| declared.contains_key(key));
    }
}

impl Platform {
    /// Every reconciliation of what is live.
    #[must_use]
    pub fn reconciliations(&self) -> Vec<ReconciliationStatus> {
        let sweeps = self.sweeps().all.lock();
        let declared = self.declared().into_iter();
        let status = |(key, what): (ReconciliationKey, Reconciliation)| {
            let entry = sweeps.get(&key).cloned().unwrap_or_default();
            ReconciliationStatus {
                key,
                every_ms: u64::try_from(what.every.as_millis()).unwrap_or(u64::MAX),
                repair: what.repair,
                last: entry.last,
                next: entry.next,
            }
        };
        declared.map(status).collect()
    }

    /// What the last sweep found.
    ///
    /// # Errors
    /// `NO_SUCH_RECONCILIATION`, or what the store fails with.
    pub async fn differences(&self, app: &str, name: &str) -> Result<Vec<Known>, Error> {
        let (live, _) = self.reconciliation(app, name)?;
        let name = Name::new(name).map_err(Error::internal)?;
        let stored = self
            .store()
            .differences()
            .list(live.name.clone(), name)
            .await?;
        stored.into_iter().map(known).collect()
    }

    /// Sweeps now.
    ///
    /// # Errors
    /// `NO_SUCH_RECONCILIATION`; why a sweep failed is in its answer.
    pub async fn sweep(&self, app: &str, name: &str) -> Result<Sweep, Error> {
        let (live, what) = self.reconciliation(app, name)?;
        let key = ReconciliationKey {
            app: live.name.clone(),
            name: Name::new(name).map_err(Error::internal)?,
        };
        let turn = Arc::clone(&self.sweeps().turn).lock_owned().await;
        let swept = self.try_sweep(&live, &key, &what).await;
        drop(turn);
        let now = self.clock().now();
        let sweep = swept.unwrap_or_else(|error| Sweep {
            at: now,
            rows: (0, 0),
            differences: 0,
            handed: 0,
            resolved: 0,
            error: Some(error),
        });
        let entry = Entry {
            last: Some(sweep.clone()),
            next: Some(now + what.every),
        };
        self.sweeps().all.lock().insert(key, entry);
        self.sweeps().changed.notify_waiters();
        Ok(sweep)
    }

    /// Reconciliations of what is live.
    pub(crate) fn declared(&self) -> BTreeMap<ReconciliationKey, Reconciliation> {
        let live = self.apps().live();
        let of_app = |app: &Arc<LiveApp>| {
            let name = app.name.clone();
            let all = app.app.reconcile.clone().into_iter();
            all.map(move |(own, what)| {
                let key = ReconciliationKey {
                    app: name.clone(),
                    name: own,
                };
                (key, what)
            })
        };
        live.apps.iter().flat_map(of_app).collect()
    }

    /// When `key` is to be swept; at first soon, since what went wrong while the server was down waits.
    pub(crate) fn due(&self, key: &ReconciliationKey, what: &Reconciliation) -> Time {
        let now = self.clock().now();
        let mut all = self.sweeps().all.lock();
        let soon = now + what.every.min(std::time::Duration::from_secs(5));
        *all.entry(key.clone()).or_default().next.get_or_insert(soon)
    }

    fn reconciliation(
        &self,
        app: &str,
        name: &str,
    ) -> Result<(Arc<LiveApp>, Reconciliation), Error> {
        let live = self.apps().find(app)?;
        let found = live
            .app
            .reconcile
            .iter()
            .find(|(own, _)| own.as_str() == name);
        if let Some((_, what)) = found {
            let what = what.clone();
            return Ok((live, what));
        }
        let known: Vec<_> = live.app.reconcile.keys().map(Name::as_str).collect();
        let message = if known.is_empty() {
            format!("app `{app}` reconciles nothing")
        } else {
            format!(
                "app `{app}` has no reconciliation `{name}`: it has {}",
                known.join(", ")
            )
        };
        Err(Error::new(code::NO_SUCH_RECONCILIATION, message))
    }

    async fn try_sweep(
        &self,
        live: &Arc<LiveApp>,
        key: &ReconciliationKey,
        what: &Reconciliation,
    ) -> Result<Sweep, Error> {
        let (left, right) = self.sides(live, what).await?;
        let rows = (left.len(), right.len());
        let found = compare::compare(&what.key, &what.compare, left, right)
            .map_err(|why| Error::new(code::RECONCILIATION_FAILED, why))?;
        let differences = found.len();
        let stored = found.iter().take(MOST).map(|one| Found {
            key: one.key.clone(),
            hash: one.hash(),
            body: serde_json::to_string(one).unwrap_or_default(),
        });
        let now = self.clock().now();
        let (app, name) = (key.app.clone(), key.name.clone());
        let store = self.store().differences();
        let resolved = store
            .sweep(app.clone(), name.clone(), stored.collect(), now)
            .await?;
        let mut handed = 0;
        for one in store.list(app, name).await? {
            if one.handed.is_none() && now.since(one.found_at) >= what.after {
                handed += usize::from(self.hand(live, key, what, &one).await?);
            }
        }
        Ok(Sweep {
            at: now,
            rows,
            differences,
            handed,
            resolved,
            error: None,
        })
    }

    /// Hands a difference to repair; whether there is somebody who does.
    async fn hand(
        &self,
        live: &Arc<LiveApp>,
        key: &ReconciliationKey,
        what: &Reconciliation,
        one: &Stored,
    ) -> Result<bool, Error> {
        let Some(repair) = &what.repair else {
            return Ok(false);
        };
        let callee = live.callee(repair.as_str())?;
        let id = invocation(key, one);
        let difference: Value = serde_json::from_str(&one.found.body).map_err(Error::internal)?;
        let payload = json!({
            "reconciliation": key.name, "found_at": one.found_at.rfc3339(), "difference": difference,
        });
        let cause = self.operator_cause(self.new_trace());
        let trigger = Trigger::Direct;
        let payload = Bytes::from(payload.to_string());
        self.calls()
            .accept_as(id, &callee, trigger, payload, cause)
            .await?;
        let (app, name) = (key.app.clone(), key.name.clone());
        let store = self.store().differences();
        let now = self.clock().now();
        store
            .handed(app, name, &one.found, now, id.to_string())
            .await?;
        Ok(true)
    }
}

fn known(stored: Stored) -> Result<Known, Error> {
    let difference = serde_json::from_str(&stored.found.body).map_err(Error::internal)?;
    let (handed_at, invocation) = stored.handed.unzip();
    Ok(Known {
        difference,
        found_at: stored.found_at,
        handed_at,
        invocation,
    })
}

/// The id of the invocation that repairs a difference: the same whenever it is asked for, and no other's.
fn invocation(key: &ReconciliationKey, one: &Stored) -> InvocationId {
    let text = format!(
        "{}/{}/{}/{}/{}",
        key.app, key.name, one.found.key, one.found.hash, one.found_at.0
    );
    let hash = Sha256::digest(text);
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id[..6].copy_from_slice(&one.found_at.as_millis().to_be_bytes()[2..]);
    // Version 7 and the variant of RFC 9562.
    id[6] = (id[6] & 0x0f) | 0x70;
    id[8] = (id[8] & 0x3f) | 0x80;
    InvocationId::from_bytes(id)
}
