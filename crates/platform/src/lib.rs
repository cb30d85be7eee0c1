//! The application layer: one file per resource, the one door, the loops, the reconcilers, and the host of running code.
//!
//! Doors (`gateway`, `aws`, `api`) call this and nothing below it. `dispatch` imports no other module of this crate.

pub mod apps;
pub mod background;
pub mod bridges;
pub mod calls;
pub mod contracts;
pub mod databases;
pub mod deliveries;
pub mod deploy;
pub mod direct;
pub mod dispatch;
pub mod events;
mod figures;
mod host;
mod inbox;
pub mod keys;
pub mod keyvalue;
mod leases;
mod loops;
pub mod mesh;
mod open;
mod operations;
pub mod otlp;
pub mod outside;
pub mod problem;
mod projections;
pub mod ps;
pub mod query;
pub mod reconcile;
pub mod streams;
pub mod versions;

use std::sync::{Arc, atomic::AtomicBool};

use apps::Apps;
use bus::Bus;
use calls::Calls;
use deploy::Deployer;
use dispatch::Dispatch;
use events::Events;
pub use host::Doors;
use keyvalue::KeyValue;
use mesh::Mesh;
use model::{Clock, Ids, Limits, TraceContext};
pub use open::{Kept, Options, Running};
pub use runtime::http_input::{find as find_header, remove as remove_header};
pub use runtime::lambda::payload;
use runtime::launcher::Launcher;
pub use runtime::launcher::{Ends, Holder};
pub use runtime::{
    Body, BodyError, Caller, FunctionError, Inferred, Input, LOG_TAIL, LogTail, Presence, Upgrade,
};
use store::Store;
pub use store::{FolderLock, crash};
use streams::Streams;
pub use telemetry;
use telemetry::Telemetry;

/// The platform. Cheap to clone.
#[derive(Clone)]
pub struct Platform(Arc<Rooms>);

/// What the platform consists of.
struct Rooms {
    clock: Clock,
    ids: Ids,
    limits: Limits,
    store: Store,
    bus: Bus,
    telemetry: Telemetry,
    dispatch: Dispatch,
    apps: Arc<Apps>,
    events: Events,
    keyvalue: KeyValue,
    calls: Calls,
    mesh: Mesh,
    deployer: Arc<Deployer>,
    relays: databases::Relays,
    sweeps: reconcile::Sweeps,
    outsiders: outside::Outsiders,
    ways: bridges::Bridges,
    keys: Arc<access::InstanceKeys<Presence>>,
    launcher: Launcher,
    usage_retention: std::time::Duration,
    draining: AtomicBool,
}

impl Platform {
    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.0.bus
    }

    pub(crate) fn relays(&self) -> &databases::Relays {
        &self.0.relays
    }

    pub(crate) fn ways(&self) -> &bridges::Bridges {
        &self.0.ways
    }

    pub(crate) fn leases(&self) -> &leases::Leases {
        &self.0.outsiders.leases
    }

    pub(crate) fn uses(&self) -> &keys::Uses {
        &self.0.outsiders.uses
    }

    pub(crate) fn sweeps(&self) -> &reconcile::Sweeps {
        &self.0.sweeps
    }

    /// What is live.
    #[must_use]
    pub fn apps(&self) -> &Apps {
        &self.0.apps
    }

    /// The one door.
    #[must_use]
    pub fn dispatch(&self) -> &Dispatch {
        &self.0.dispatch
    }

    /// Publishing.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// What workloads keep under keys.
    #[must_use]
    pub fn keyvalue(&self) -> &KeyValue {
        &self.0.keyvalue
    }

    /// Event sourcing.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.mesh().streams
    }

    /// Work that is committed now and done later.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.0.calls
    }

    /// Calls between workloads.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.0.mesh
    }

    /// Deploys.
    #[must_use]
    pub fn deployer(&self) -> &Arc<Deployer> {
        &self.0.deployer
    }

    /// Traces, logs, usage.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.0.telemetry
    }

    /// Key pairs of instances.
    #[must_use]
    pub fn keys(&self) -> &access::InstanceKeys<Presence> {
        &self.0.keys
    }

    /// Who holds the client's end of a connection: an instance, with the ids of key pairs in its environment,
    /// or nobody that Tangelo started.
    pub async fn holder(&self, ends: Ends) -> Holder {
        let launcher = self.0.launcher.clone();
        let look = move || launcher.holder(ends, host::KEY_VARIABLE);
        let found = tokio::task::spawn_blocking(look).await;
        found.unwrap_or(Holder::Outside)
    }

    /// What each version declared.
    #[must_use]
    pub fn versions(&self) -> &versions::Versions {
        &self.0.deployer.versions
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Where ids come from.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.0.ids
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The root of a new trace.
    #[must_use]
    pub fn new_trace(&self) -> TraceContext {
        TraceContext::root(self.ids().random())
    }
}
