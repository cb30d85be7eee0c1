//! Deploying: from a manifest and uploaded files to a live revision, and back by rollback.
//!
//! A revision is immutable. What a switch changes, it changes for all workloads, routes and subscriptions of the app
//! at once: everything new is unpacked, loaded and healthy before the one commit that switches, and what is no longer
//! live drains after it. Deploys of one app take turns; readers of the snapshot never wait for one.

mod artifact;
mod notes;
mod retire;
mod revisions;
mod sweep;
mod switch;
mod turns;
mod under_way;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

pub use artifact::{FileEntry, Files};
use bus::Bus;
use model::{
    App, AppName, Clock, Error, Limits, Name, RevisionId, Select, Target, VersionId, Workload,
    WorkloadName, code,
};
use parking_lot::Mutex;
use runtime::{Runtime, Spec};
use serde::{Deserialize, Serialize};
use store::{
    Store,
    apps::{NewRevision, Revision},
};
use switch::{Candidate, Commit, Prepared};
use telemetry::Telemetry;
pub(crate) use turns::{Claims, Turns};
pub(crate) use under_way::Register;
use under_way::Ticket;
pub use under_way::{Phase, UnderWay};

use crate::{
    apps::Apps,
    contracts,
    dispatch::{Backend, Callee},
    versions::{Known, Versions},
};

/// What a client asks to have deployed. The files themselves were uploaded before, by hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The text of `tangelo.yaml`.
    pub manifest: String,
    /// The artifact of each workload that has one.
    pub files: BTreeMap<WorkloadName, Files>,
    /// The files of the folder `contracts`, by their paths in it.
    #[serde(default)]
    pub contracts: BTreeMap<String, String>,
    /// The revision that the client believes to be live; `None`: any.
    #[serde(default)]
    pub expect: Option<RevisionId>,
}

/// What a deploy did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployed {
    /// The app.
    pub app: AppName,
    /// The revision that is live now.
    pub revision: RevisionId,
    /// Workloads whose version changed, or that are new.
    pub changed: Vec<WorkloadName>,
    /// Workloads that went away.
    pub removed: Vec<WorkloadName>,
    /// Warnings of the manifest.
    pub warnings: Vec<String>,
    /// What this server makes of it: routes that another app has, secrets that are not set.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The deployer.
pub struct Deployer {
    pub(crate) store: Store,
    pub(crate) bus: Bus,
    pub(crate) apps: Arc<Apps>,
    pub(crate) versions: Versions,
    pub(crate) runtime: Runtime,
    pub(crate) telemetry: Telemetry,
    pub(crate) secrets: access::Secrets,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// `DIR/versions`: unpacked artifacts by version.
    pub(crate) unpacked: PathBuf,
    /// `DIR/state`: folders of workloads that outlive instances.
    pub(crate) state: PathBuf,
    /// Revisions of an app that stay beside the live one.
    pub(crate) keep_revisions: u32,
    pub(crate) backends: Mutex<HashMap<VersionId, Arc<Backend>>>,
    /// What finishes its last requests.
    pub(crate) leaving: Mutex<HashMap<VersionId, Arc<Backend>>>,
    /// Whether something changed since the last sweep.
    pub(crate) unswept: AtomicBool,
    /// Held where something that deploys share is changed, and never while one waits for an instance.
    pub(crate) one_at_a_time: tokio::sync::Mutex<()>,
    pub(crate) turns: Turns,
    /// Versions that are brought up, and not live yet.
    pub(crate) claims: Claims,
    pub(crate) under_way: Register,
}

impl Deployer {
    /// Deploys `request` and answers when it is live. Whoever gives up waiting before everything new is healthy calls it
    /// off; after that it goes on.
    ///
    /// # Errors
    /// `MANIFEST_INVALID` with every mistake, `UPLOAD_MISSING`, `DEPLOY_CONFLICT`, `DEPLOY_UNHEALTHY`; the old revision
    /// then serves on as if nothing had been asked.
    pub async fn deploy(self: &Arc<Self>, request: Request) -> Result<Deployed, Error> {
        let (mut app, mut warnings) = self.read(&request.manifest)?;
        app.contracts.clone_from(&request.contracts);
        self.check(&app, &request)?;
        let ticket = self.under_way.enter(&app.name);
        let turn = self.turns.of(&app.name).await;
        self.check_expected(&app.name, request.expect)?;
        if let Some(unchanged) = self.unchanged(&app, &request, &warnings).await? {
            return Ok(unchanged);
        }
        let app = Arc::new(app);
        warnings.extend(self.check_contracts(&app).await?);
        let candidate = self.bring_up(&app, &request.files, &ticket).await?;
        let row = NewRevision {
            namespace: Name::default_namespace(),
            app: app.name.clone(),
            manifest: request.manifest,
            spec: to_json(&*app)?,
            files: to_json(&request.files)?,
            blobs: request
                .files
                .values()
                .flatten()
                .map(|f| (f.hash, f.size))
                .collect(),
            at: self.clock.now(),
        };
        candidate.go_live(turn, Commit::New(row), warnings).await
    }

    /// Makes an earlier revision live again.
    ///
    /// # Errors
    /// `NO_SUCH_REVISION`, or what a deploy of it would fail with.
    pub async fn rollback(
        self: &Arc<Self>,
        app: &AppName,
        to: Option<RevisionId>,
    ) -> Result<Deployed, Error> {
        let ticket = self.under_way.enter(app);
        let turn = self.turns.of(app).await;
        let live = self.apps.find(app.as_str())?.revision;
        let revision = match to {
            Some(revision) => revision,
            None => self.before(app, live).await?,
        };
        let row = self.revision(app, revision).await?;
        let (model, files) = revisions::read_row(&row)?;
        let candidate = self.bring_up(&Arc::new(model), &files, &ticket).await?;
        candidate
            .go_live(turn, Commit::Again(revision), Vec::new())
            .await
    }

    /// Deploys and rollbacks that have not ended, oldest first.
    #[must_use]
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.under_way.list()
    }

    /// Everything that runs, also what is brought up and what finishes its last requests.
    pub(crate) fn running(&self) -> Vec<(VersionId, Arc<Backend>)> {
        let of = |backends: &HashMap<VersionId, Arc<Backend>>| {
            let all = backends.iter().map(|(v, b)| (*v, Arc::clone(b)));
            all.collect::<Vec<_>>()
        };
        let mut all = of(&self.backends.lock());
        all.extend(of(&self.leaving.lock()));
        all
    }

    /// Takes an app out of service. Its revisions and state stay until purged.
    ///
    /// # Errors
    /// `NO_SUCH_APP`, `CONTRACT_PINNED` when a subscription of another app asks for what its contracts have.
    pub async fn remove(self: &Arc<Self>, app: &AppName) -> Result<(), Error> {
        let (deployer, app) = (Arc::clone(self), app.clone());
        // What is begun is done to its end, whether or not somebody waits for it.
        let removing = tokio::spawn(async move { deployer.remove_now(&app).await });
        removing.await.map_err(Error::internal)?
    }

    async fn remove_now(self: &Arc<Self>, app: &AppName) -> Result<(), Error> {
        let _turn = self.turns.of(app).await;
        let _now = self.one_at_a_time.lock().await;
        self.apps.find(app.as_str())?;
        contracts::gate::removal(app, &self.apps.live())?;
        self.store
            .apps()
            .remove(Name::default_namespace(), app.clone())
            .await
            .map_err(store_error)?;
        self.bus
            .set_subscriptions(&Name::default_namespace(), app, Vec::new())
            .await
            .map_err(bus_error)?;
        if let Some(old) = self.apps.remove(app) {
            self.retire(&old.callees);
        }
        Ok(())
    }

    /// Makes live what was live when the server stopped. Only names are read; code loads on first use. An app that cannot be
    /// restored is reported and left out: the others are served.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn restore(self: &Arc<Self>) -> Result<(), Error> {
        for row in self.store.apps().live().await.map_err(store_error)? {
            if let Err(error) = self.restore_one(&row).await {
                let (app, revision) = (&row.app, row.revision);
                let because = error.context.as_deref().unwrap_or("no more is known");
                tracing::error!(
                    "revision {revision} of `{app}` is not served: {error} ({because}); deploy it again, or restore the \
                     data folder from a backup"
                );
            }
        }
        Ok(())
    }

    async fn restore_one(self: &Arc<Self>, row: &Revision) -> Result<(), Error> {
        let (model, files) = revisions::read_row(row)?;
        let prepared = self.prepare(Arc::new(model), &files).await?;
        let deployer = Arc::clone(self);
        let callees: Vec<_> = prepared.callees.values().cloned().collect();
        self.switch(row.revision, prepared, Vec::new(), Vec::new())
            .await;
        tokio::spawn(async move { deployer.keep_minimum(callees).await });
        Ok(())
    }

    fn read(&self, text: &str) -> Result<(App, Vec<String>), Error> {
        let parsed = manifest::parse(text, "tangelo.yaml", &self.limits);
        let rendered = || manifest::render(&parsed.diagnostics, text, "tangelo.yaml");
        match &parsed.app {
            None => Err(Error::new(code::MANIFEST_INVALID, rendered())),
            Some(app) => {
                // Of one app alone; the notes say it over all that are deployed.
                let of_the_app = |d: &&manifest::Diagnostic| d.code != code::TYPE_NOT_PUBLISHED;
                let warnings = parsed.diagnostics.iter().filter(of_the_app);
                let warnings = warnings.map(|d| d.message.clone());
                let warnings = warnings.chain(contracts::misnamed(app)).collect();
                Ok((app.clone(), warnings))
            }
        }
    }

    fn check(&self, app: &App, request: &Request) -> Result<(), Error> {
        for (workload, files) in &request.files {
            if !app.workloads.contains_key(workload) {
                let message = format!(
                    "files were uploaded for `{workload}`, which the manifest does not have"
                );
                return Err(Error::new(code::UPLOAD_MISSING, message));
            }
            artifact::check(workload, files, &self.limits)?;
            for file in files {
                if !self.store.blobs().contains(&file.hash) {
                    let message = format!(
                        "`{}` of `{workload}` was not uploaded ({})",
                        file.path, file.hash
                    );
                    return Err(Error::new(code::UPLOAD_MISSING, message));
                }
            }
        }
        Ok(())
    }

    /// Off the threads that serve: many versions of large schemas take their time.
    async fn check_contracts(&self, app: &Arc<App>) -> Result<Vec<String>, Error> {
        let (app, live) = (Arc::clone(app), self.apps.live());
        let checking = tokio::task::spawn_blocking(move || {
            contracts::gate::check(&app, &contracts::gate::read(&app)?, &live)
        });
        checking.await.map_err(Error::internal)?
    }

    fn notes(&self, app: &App, contracts: &contract::Contracts) -> Vec<String> {
        let live = self.apps.live();
        let mut notes = notes::notes(app, &live, &self.secrets);
        notes.extend(contracts::notes(app, contracts, &live));
        notes
    }

    /// What is live already needs no revision of its own: tools deploy whenever a file is touched.
    async fn unchanged(
        &self,
        app: &App,
        request: &Request,
        warnings: &[String],
    ) -> Result<Option<Deployed>, Error> {
        let Ok(live) = self.apps.find(app.name.as_str()) else {
            return Ok(None);
        };
        let row = self.revision(&app.name, live.revision).await?;
        let same = row.manifest == request.manifest
            && row.files == to_json(&request.files)?
            && live.app.contracts == app.contracts;
        Ok(same.then(|| Deployed {
            app: app.name.clone(),
            revision: live.revision,
            changed: Vec::new(),
            removed: Vec::new(),
            warnings: warnings.to_vec(),
            notes: self.notes(app, &live.contracts),
        }))
    }

    fn check_expected(&self, app: &AppName, expect: Option<RevisionId>) -> Result<(), Error> {
        let live = self.apps.find(app.as_str()).ok().map(|live| live.revision);
        match (expect, live) {
            (Some(expected), Some(live)) if expected != live => {
                let message = format!(
                    "revision {expected} was expected to be live, but {live} is: look, then deploy again"
                );
                Err(Error::new(code::DEPLOY_CONFLICT, message))
            }
            _ => Ok(()),
        }
    }

    /// Unpacks what is new and makes a callee for every workload; nothing runs yet.
    async fn prepare(
        &self,
        app: Arc<App>,
        files: &BTreeMap<WorkloadName, Files>,
    ) -> Result<Prepared, Error> {
        let mut versions = BTreeMap::new();
        let mut callees = BTreeMap::new();
        let none = Files::default();
        for (name, workload) in &app.workloads {
            let files = files.get(name).unwrap_or(&none);
            let version = artifact::version(&app, workload, files)?;
            let folder = self.unpacked.join(version.to_string());
            artifact::unpack(&self.store, files, &folder).await?;
            let backend = self.backend(&app, workload, version, folder)?;
            let target = Target {
                namespace: Name::default_namespace(),
                app: app.name.clone(),
                workload: name.clone(),
                select: Select::Version(version),
            };
            versions.insert(name.clone(), version);
            callees.insert(
                name.clone(),
                Arc::new(Callee::new(target, workload.clone(), version, backend)),
            );
        }
        Ok(Prepared {
            contracts: Arc::new(contracts::gate::read(&app)?),
            app,
            versions,
            callees,
        })
    }

    /// What runs `version`: what is there if there is something, so that a switch touches only what differs.
    fn backend(
        &self,
        app: &App,
        workload: &Workload,
        version: VersionId,
        folder: PathBuf,
    ) -> Result<Arc<Backend>, Error> {
        let mut backends = self.backends.lock();
        if let Some(backend) = backends.get(&version) {
            return Ok(Arc::clone(backend));
        }
        let known = Known {
            app: app.name.clone(),
            workload: workload.clone(),
            hosts: app.hosts.clone(),
        };
        self.versions.add(version, known);
        let state_folder = workload.state_folder.then(|| {
            self.state
                .join(app.name.as_str())
                .join(workload.name.as_str())
        });
        if let Some(folder) = &state_folder {
            std::fs::create_dir_all(folder)
                .map_err(|e| Error::internal(format!("{}: {e}", folder.display())))?;
        }
        let pool = self.runtime.pool(Spec {
            namespace: Name::default_namespace(),
            app: app.name.clone(),
            workload: workload.clone(),
            version,
            folder,
            hosts: app.hosts.keys().cloned().collect(),
            state_folder,
        });
        let backend = Arc::new(Backend::new(pool, &workload.scale));
        backends.insert(version, Arc::clone(&backend));
        Ok(backend)
    }

    /// Unpacks what is new and starts what must be there before the switch: a new revision that does not start never
    /// becomes live.
    async fn bring_up(
        self: &Arc<Self>,
        app: &Arc<App>,
        files: &BTreeMap<WorkloadName, Files>,
        ticket: &Ticket,
    ) -> Result<Candidate, Error> {
        let candidate = {
            let _now = self.one_at_a_time.lock().await;
            ticket.unpacks();
            let prepared = self.prepare(Arc::clone(app), files).await?;
            Candidate::new(self, prepared)
        };
        let callees = &candidate.prepared().callees;
        ticket.starts(callees.keys());
        let warming = callees.values().map(|callee| async move {
            let warmed = callee.pool().warm().await;
            ticket.ready(&callee.target.workload);
            warmed.map_err(|error| unhealthy(callee, error))
        });
        let results = futures_util::future::join_all(warming).await;
        results.into_iter().collect::<Result<(), Error>>()?;
        Ok(candidate)
    }

    async fn keep_minimum(&self, callees: Vec<Arc<Callee>>) {
        for callee in callees.into_iter().filter(|c| c.workload.scale.min > 0) {
            if let Err(error) = callee.pool().warm().await {
                tracing::error!(target = %callee.target, %error, "does not start");
            }
        }
    }
}

/// Who deploys is the operator: what the workload last said is theirs to read.
fn unhealthy(callee: &Callee, error: Error) -> Error {
    let said = error
        .context
        .map_or_else(String::new, |context| format!("\n{context}"));
    let workload = &callee.target.workload;
    let message = format!("`{workload}` does not start: {}{said}", error.message);
    // What is not to be mended in the code, but in a setting or the manifest, has a page that says so.
    let code = match error.code {
        code::PREVIEW_OFF | code::NOT_CONCURRENT => error.code,
        _ => code::DEPLOY_UNHEALTHY,
    };
    Error::new(code, message)
}

fn to_json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::internal)
}

fn store_error(error: store::Error) -> Error {
    error.into()
}

fn bus_error(error: bus::Error) -> Error {
    error.into()
}
