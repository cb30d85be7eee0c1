//! A workload that can be invoked: its pool, its permits and the decisions that are made once per revision.

use std::sync::{Arc, OnceLock};

use model::{Class, Error, Target, Tier, Trigger, VersionId, Workload};
use runtime::Pool;
use telemetry::UsageKey;

use super::{backend::Backend, buffers::Share, total::Place};

/// One version of a workload as routes, subscriptions and tasks hold it: after a match there is no lookup by name.
pub struct Callee {
    /// What it is called.
    pub target: Arc<Target>,
    /// What the manifest says of it.
    pub workload: Workload,
    /// Which version.
    pub version: VersionId,
    /// The same as people read it, for the spans.
    pub(super) version_text: Arc<str>,
    /// What its usage is counted by, for each kind of trigger that it had.
    usage: [OnceLock<UsageKey>; Trigger::KINDS.len()],
    backend: Arc<Backend>,
}

impl Callee {
    /// A callee in front of `backend`, which all callees of its version share.
    #[must_use]
    pub fn new(
        target: Target,
        workload: Workload,
        version: VersionId,
        backend: Arc<Backend>,
    ) -> Self {
        Self {
            target: Arc::new(target),
            workload,
            version,
            version_text: version.short().into(),
            usage: Default::default(),
            backend,
        }
    }

    /// Where it runs.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.backend.pool
    }

    /// What bodies that wait for it hold of the memory for bodies.
    pub(super) fn bodies(&self) -> &Share {
        &self.backend.bodies
    }

    /// Function, service or job.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.workload.tier
    }

    /// What invocations that were caused in this way are counted by.
    pub(super) fn usage_key(&self, trigger: &Trigger) -> &UsageKey {
        self.usage[trigger.number()].get_or_init(|| {
            let (app, workload) = (self.target.app.clone(), self.target.workload.clone());
            UsageKey::new(app, workload, self.tier(), trigger.kind())
        })
    }

    /// Invocations admitted and not yet ended.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.backend.in_flight()
    }

    /// Takes a place, or says why there is none.
    pub(super) fn admit(callee: &Arc<Self>, class: Class, place: Place) -> Result<Permit, Error> {
        let deferred = class != Class::Interactive;
        callee.backend.take(deferred, &callee.target)?;
        Ok(Permit {
            callee: Arc::clone(callee),
            deferred,
            place: Some(place),
            released: false,
        })
    }
}

/// The right to run one invocation; given back when dropped.
pub struct Permit {
    callee: Arc<Callee>,
    deferred: bool,
    place: Option<Place>,
    released: bool,
}

impl Permit {
    /// Whom it admits to.
    #[must_use]
    pub const fn callee(&self) -> &Arc<Callee> {
        &self.callee
    }

    /// It is a connection from now on, and counts as one; the workload still has it.
    pub(super) fn upgraded(&mut self) {
        self.place = None;
    }

    /// Gives it back. Whom it admitted to is still known.
    pub(super) fn release(&mut self) {
        if !std::mem::replace(&mut self.released, true) {
            self.callee.backend.give_back(self.deferred);
            self.place = None;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}
