//! The switch itself: from a candidate that is up to what is live, in one commit.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use contract::Contracts;
use model::{
    App, Error, Name, RevisionId, Subscription, SubscriptionKey, VersionId, Workload, WorkloadName,
};
use store::apps::NewRevision;
use tokio::sync::OwnedMutexGuard;

use super::{Deployed, Deployer, store_error, turns::Claim};
use crate::{apps::LiveApp, contracts::gate, dispatch::Callee};

/// A revision on its way to being live. Cheap to clone.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) app: Arc<App>,
    pub(super) contracts: Arc<Contracts>,
    pub(super) versions: BTreeMap<WorkloadName, VersionId>,
    pub(super) callees: BTreeMap<WorkloadName, Arc<Callee>>,
}

/// A revision that is brought up. Dropped before it goes live, what runs of it ends.
pub(super) struct Candidate {
    deployer: Arc<Deployer>,
    prepared: Prepared,
    /// Nobody tidies it up before it is live, or given up.
    _claim: Claim,
    /// Whether it is on its way to being live, and no longer anybody's to call off.
    decided: bool,
}

/// What makes a candidate the live revision.
pub(super) enum Commit {
    /// It is a revision of its own from now on.
    New(NewRevision),
    /// It was a revision before.
    Again(RevisionId),
}

impl Candidate {
    pub(super) fn new(deployer: &Arc<Deployer>, prepared: Prepared) -> Self {
        let versions = prepared.versions.values().copied();
        Self {
            _claim: deployer.claims.claim(versions),
            deployer: Arc::clone(deployer),
            prepared,
            decided: false,
        }
    }

    pub(super) const fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Commits and switches. From here on it goes on when its caller does not wait any more: what is committed is what
    /// is live.
    pub(super) async fn go_live(
        self,
        turn: OwnedMutexGuard<()>,
        commit: Commit,
        warnings: Vec<String>,
    ) -> Result<Deployed, Error> {
        let going = tokio::spawn(async move {
            let _turn = turn;
            let deployer = Arc::clone(&self.deployer);
            let _now = deployer.one_at_a_time.lock().await;
            self.commit_and_switch(commit, warnings).await
        });
        going.await.map_err(Error::internal)?
    }

    async fn commit_and_switch(
        mut self,
        commit: Commit,
        warnings: Vec<String>,
    ) -> Result<Deployed, Error> {
        let deployer = Arc::clone(&self.deployer);
        let Prepared { app, contracts, .. } = &self.prepared;
        // Once more, now that nothing else switches: another app may have gone live meanwhile, and a rollback was not looked at.
        gate::expectations(app, contracts, &deployer.apps.live())?;
        let apps = deployer.store.apps();
        let revision = match commit {
            Commit::New(row) => apps.commit(row).await.map_err(store_error)?,
            Commit::Again(revision) => {
                let name = self.prepared.app.name.clone();
                let pointed = apps.point(Name::default_namespace(), name, revision).await;
                pointed.map_err(store_error)?;
                revision
            }
        };
        self.decided = true;
        let prepared = self.prepared.clone();
        let notes = deployer.notes(&prepared.app, &prepared.contracts);
        Ok(deployer.switch(revision, prepared, warnings, notes).await)
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if !self.decided {
            self.deployer.retire(&self.prepared.callees);
        }
    }
}

impl Deployer {
    pub(super) async fn switch(
        self: &Arc<Self>,
        revision: RevisionId,
        prepared: Prepared,
        warnings: Vec<String>,
        notes: Vec<String>,
    ) -> Deployed {
        let namespace = Name::default_namespace();
        let name = prepared.app.name.clone();
        let subscriptions = subscriptions(&prepared.app);
        if let Err(error) = self
            .bus
            .set_subscriptions(&namespace, &name, subscriptions)
            .await
        {
            tracing::error!(app = %name, %error, "subscriptions could not be switched");
        }
        let live = LiveApp {
            namespace,
            name: name.clone(),
            revision,
            app: prepared.app,
            contracts: prepared.contracts,
            callees: prepared.callees,
        };
        let live = Arc::new(live);
        let old = self.apps.switch(Arc::clone(&live));
        self.unswept.store(true, Relaxed);
        let (changed, removed) = differences(old.as_deref(), &prepared.versions);
        if let Some(old) = old {
            self.retire(&old.callees);
        }
        Deployed {
            app: name,
            revision,
            changed,
            removed,
            warnings,
            notes,
        }
    }
}

/// Every subscription of an app under the key that its cursor has.
fn subscriptions(app: &App) -> Vec<(SubscriptionKey, Subscription)> {
    let of = |workload: &Workload| {
        let name = workload.name.clone();
        workload.on.clone().into_iter().map(move |subscription| {
            let key = SubscriptionKey {
                app: app.name.clone(),
                workload: name.clone(),
                name: subscription.name.clone(),
            };
            (key, subscription)
        })
    };
    app.workloads.values().flat_map(of).collect()
}

fn differences(
    old: Option<&LiveApp>,
    new: &BTreeMap<WorkloadName, VersionId>,
) -> (Vec<WorkloadName>, Vec<WorkloadName>) {
    let before = |name: &WorkloadName| old.and_then(|o| o.callees.get(name)).map(|c| c.version);
    let changed = new
        .iter()
        .filter(|(name, version)| before(name) != Some(**version))
        .map(|(name, _)| name.clone());
    let gone = old
        .into_iter()
        .flat_map(|o| o.callees.keys())
        .filter(|name| !new.contains_key(*name))
        .cloned();
    (changed.collect(), gone.collect())
}
