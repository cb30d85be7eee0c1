//! Deploys under way, for whoever waits for one: what each is at, and for which workloads it still waits.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use model::{AppName, WorkloadName};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// One deploy or rollback that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// The app.
    pub app: AppName,
    /// What it is at.
    pub phase: Phase,
    /// Workloads that are still compiled, started or not yet healthy; empty before it comes to that.
    pub waits_for: Vec<WorkloadName>,
}

/// What a deploy is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Behind another deploy of the same app: they take turns.
    Queued,
    /// Its files are put where they run.
    Unpacking,
    /// Code is compiled, instances start.
    Starting,
}

/// All of them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Register(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    entries: Mutex<BTreeMap<u64, UnderWay>>,
}

/// The place of one in the register; dropping it takes it out.
pub(crate) struct Ticket {
    register: Register,
    number: u64,
}

impl Register {
    /// Enters a deploy of `app`, as queued.
    pub(crate) fn enter(&self, app: &AppName) -> Ticket {
        let number = self.0.next.fetch_add(1, Relaxed);
        let entry = UnderWay {
            app: app.clone(),
            phase: Phase::Queued,
            waits_for: Vec::new(),
        };
        self.0.entries.lock().insert(number, entry);
        Ticket {
            register: self.clone(),
            number,
        }
    }

    /// What is under way, oldest first.
    pub(crate) fn list(&self) -> Vec<UnderWay> {
        self.0.entries.lock().values().cloned().collect()
    }
}

impl Ticket {
    /// Its files are unpacked now.
    pub(crate) fn unpacks(&self) {
        self.change(|entry| entry.phase = Phase::Unpacking);
    }

    /// These workloads are started now.
    pub(crate) fn starts<'a>(&self, workloads: impl Iterator<Item = &'a WorkloadName>) {
        self.change(|entry| {
            entry.phase = Phase::Starting;
            entry.waits_for = workloads.cloned().collect();
        });
    }

    /// This one is ready.
    pub(crate) fn ready(&self, workload: &WorkloadName) {
        self.change(|entry| entry.waits_for.retain(|name| name != workload));
    }

    fn change(&self, change: impl FnOnce(&mut UnderWay)) {
        if let Some(entry) = self.register.0.entries.lock().get_mut(&self.number) {
            change(entry);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.register.0.entries.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deploy_is_listed_from_its_beginning_to_its_end() {
        let register = Register::default();
        let names: Vec<WorkloadName> = ["a", "b"]
            .map(|name| WorkloadName::new(name).expect("good"))
            .into();
        let ticket = register.enter(&AppName::new("shop").expect("good"));
        assert_eq!(register.list()[0].phase, Phase::Queued);
        ticket.starts(names.iter());
        ticket.ready(&names[0]);
        let list = register.list();
        assert_eq!(
            (list[0].phase, &list[0].waits_for[..]),
            (Phase::Starting, &names[1..])
        );
        drop(ticket);
        assert!(register.list().is_empty());
    }
}
