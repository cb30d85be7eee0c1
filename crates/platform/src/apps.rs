//! What is live now: one immutable snapshot of every app, swapped as a whole and read without locks.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use contract::Contracts;
use model::{AppName, Error, Namespace, RevisionId, Select, Target, WorkloadName, code};
use tokio::sync::watch;

use crate::dispatch::Callee;

/// One app at its live revision.
pub struct LiveApp {
    /// Where its name lives.
    pub namespace: Namespace,
    /// Its name.
    pub name: AppName,
    /// Which deployment.
    pub revision: RevisionId,
    /// What it describes.
    pub app: Arc<model::App>,
    /// The contracts of the events that it names.
    pub contracts: Arc<Contracts>,
    /// Its workloads, ready to be invoked.
    pub callees: BTreeMap<WorkloadName, Arc<Callee>>,
}

/// Every app at its live revision.
#[derive(Default)]
pub struct Live {
    /// Counts the switches since the server started.
    pub generation: u64,
    /// The apps, in the order in which they were first deployed.
    pub apps: Vec<Arc<LiveApp>>,
}

/// The snapshot and who follows it.
pub struct Apps {
    live: ArcSwap<Live>,
    changed: watch::Sender<u64>,
}

impl Default for Apps {
    fn default() -> Self {
        Self {
            live: ArcSwap::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Apps {
    /// The snapshot of this moment.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Wakes on every switch with the new generation.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The live revision of `app`.
    ///
    /// # Errors
    /// `NO_SUCH_APP`, naming those that there are.
    pub fn find(&self, app: &str) -> Result<Arc<LiveApp>, Error> {
        let live = self.live.load();
        live.apps
            .iter()
            .find(|a| a.name.as_str() == app)
            .cloned()
            .ok_or_else(|| {
                let names: Vec<_> = live.apps.iter().map(|a| a.name.as_str()).collect();
                let known = if names.is_empty() {
                    "none is deployed".to_owned()
                } else {
                    format!("there are: {}", names.join(", "))
                };
                Error::new(code::NO_SUCH_APP, format!("no app `{app}`: {known}"))
            })
    }

    /// What `target` means now.
    ///
    /// # Errors
    /// `NO_SUCH_APP` or `NO_SUCH_WORKLOAD`.
    pub fn resolve(&self, target: &Target) -> Result<Arc<Callee>, Error> {
        let callee = self
            .find(target.app.as_str())?
            .callee(target.workload.as_str())?;
        match target.select {
            Select::Live => Ok(callee),
            Select::Version(version) if callee.version == version => Ok(callee),
            Select::Version(version) => {
                let message = format!("`{target}` no longer runs version {}", version.short());
                Err(Error::new(code::NO_SUCH_WORKLOAD, message))
            }
        }
    }

    /// A workload by the name a user gives it: `app/name`, or `name` in `home`, or the only one of that name.
    ///
    /// # Errors
    /// `NO_SUCH_WORKLOAD`, naming the candidates where there are several.
    pub fn by_name(&self, name: &str, home: Option<&AppName>) -> Result<Arc<Callee>, Error> {
        if let Some((app, workload)) = name.split_once('/') {
            return self.find(app)?.callee(workload);
        }
        if let Some(callee) = home
            .and_then(|app| self.find(app.as_str()).ok())
            .and_then(|app| app.callees.get(name).cloned())
        {
            return Ok(callee);
        }
        let live = self.live.load();
        let found: Vec<_> = live
            .apps
            .iter()
            .filter_map(|app| app.callees.get(name))
            .collect();
        match found.as_slice() {
            [one] => Ok(Arc::clone(one)),
            [] => Err(Error::new(
                code::NO_SUCH_WORKLOAD,
                format!("no workload `{name}` is deployed"),
            )),
            several => {
                let names: Vec<_> = several.iter().map(|c| c.target.to_string()).collect();
                let message = format!("`{name}` is ambiguous: say one of {}", names.join(", "));
                Err(Error::new(code::NO_SUCH_WORKLOAD, message))
            }
        }
    }

    /// Puts `app` in the place of its earlier revision, and gives that back.
    pub fn switch(&self, app: Arc<LiveApp>) -> Option<Arc<LiveApp>> {
        let before = self.live.load_full();
        let mut apps = before.apps.clone();
        let old = match apps
            .iter_mut()
            .find(|a| a.name == app.name && a.namespace == app.namespace)
        {
            Some(place) => Some(std::mem::replace(place, app)),
            None => {
                apps.push(app);
                None
            }
        };
        self.publish(apps, before.generation + 1);
        old
    }

    /// Takes `name` out of service, and gives back what it was.
    pub fn remove(&self, name: &AppName) -> Option<Arc<LiveApp>> {
        let before = self.live.load_full();
        let mut apps = before.apps.clone();
        let at = apps.iter().position(|a| a.name == *name)?;
        let old = apps.remove(at);
        self.publish(apps, before.generation + 1);
        Some(old)
    }

    fn publish(&self, apps: Vec<Arc<LiveApp>>, generation: u64) {
        self.live.store(Arc::new(Live { generation, apps }));
        self.changed.send_replace(generation);
    }
}

impl LiveApp {
    /// A workload of this app.
    ///
    /// # Errors
    /// `NO_SUCH_WORKLOAD`, naming those that there are.
    pub fn callee(&self, workload: &str) -> Result<Arc<Callee>, Error> {
        self.callees.get(workload).cloned().ok_or_else(|| {
            let names: Vec<_> = self.callees.keys().map(model::Name::as_str).collect();
            let message = format!(
                "app `{}` has no workload `{workload}`: it has {}",
                self.name,
                names.join(", ")
            );
            Error::new(code::NO_SUCH_WORKLOAD, message)
        })
    }
}
