//! The keys of those outside: which there are, whether they open anything, and when each was presented last.
//!
//! A key is declared by its app's manifest, and what opens it is a secret of the server: neither is kept here. What is, is in memory
//! only: it begins anew with the server.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use access::bearer::SHORTEST;
use model::{AppName, Name, Time};
use parking_lot::RwLock;
use serde::Serialize;

use crate::Platform;

/// When keys were presented last.
#[derive(Default)]
pub(crate) struct Uses(RwLock<HashMap<AppName, HashMap<Name, AtomicU64>>>);

/// A key, as operators see it.
#[derive(Debug, Serialize)]
pub struct KeyRow {
    /// Of which app.
    pub app: AppName,
    /// Its name.
    pub key: Name,
    /// What it publishes; a trailing `*` stands for any rest.
    pub publishes: Vec<String>,
    /// The subscriptions that it pulls.
    pub pulls: Vec<Name>,
    /// The secrets that open it.
    pub secrets: Vec<KeySecret>,
    /// When it was presented last since the server started, to the second.
    pub last_used: Option<String>,
}

/// A secret that opens a key, or does not.
#[derive(Debug, Serialize)]
pub struct KeySecret {
    /// Its name.
    pub name: String,
    /// `good`, `missing` or `short` (such a one opens nothing).
    pub state: &'static str,
}

impl Uses {
    /// Notes that a key was presented.
    pub(crate) fn note(&self, app: &AppName, key: &Name, now: Time) {
        let uses = self.0.read();
        if let Some(last) = uses.get(app).and_then(|keys| keys.get(key)) {
            // Not more often than can be seen: many present the same one at the same time.
            if now.since(Time(last.load(Relaxed))).as_secs() > 0 {
                last.store(now.0, Relaxed);
            }
            return;
        }
        drop(uses);
        let mut uses = self.0.write();
        let keys = uses.entry(app.clone()).or_default();
        keys.entry(key.clone()).or_default().store(now.0, Relaxed);
    }

    fn last(&self, app: &AppName, key: &Name) -> Option<Time> {
        let uses = self.0.read();
        let last = uses.get(app)?.get(key)?.load(Relaxed);
        Some(Time(last))
    }
}

impl Platform {
    /// The keys of all deployed apps, by app and name.
    #[must_use]
    pub fn bus_keys(&self) -> Vec<KeyRow> {
        let secrets = &self.deployer().secrets;
        let state = |name: &String| match secrets.get(name) {
            None => "missing",
            Some(secret) if secret.len() < SHORTEST => "short",
            Some(_) => "good",
        };
        let live = self.apps().live();
        let keys = live.apps.iter().flat_map(|app| {
            app.app.keys.iter().map(|(name, key)| KeyRow {
                app: app.name.clone(),
                key: name.clone(),
                publishes: key.publishes.clone(),
                pulls: key.pulls.clone(),
                secrets: key
                    .secrets
                    .iter()
                    .map(|secret| KeySecret {
                        name: secret.clone(),
                        state: state(secret),
                    })
                    .collect(),
                last_used: self.uses().last(&app.name, name).map(Time::rfc3339),
            })
        });
        let mut keys: Vec<KeyRow> = keys.collect();
        keys.sort_by(|one, other| (&one.app, &one.key).cmp(&(&other.app, &other.key)));
        keys
    }
}
