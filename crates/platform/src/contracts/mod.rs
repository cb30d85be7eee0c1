//! Contracts of all apps beside each other: who publishes and takes which types, and what a deploy must not break for others.
//!
//! What an event must keep to is looked at where it is published (`events`); files and verdicts are crate `contract`'s.

mod expected;
pub(crate) mod gate;
mod graph;
mod notes;
mod sides;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use contract::{Contract, Contracts, Version};
use model::{App, AppName};

pub use gate::not_in_own;
pub use graph::{Consumer, Producer, Shipped, Type, graph};
pub(crate) use notes::notes;
pub use sides::{Untaken, misnamed, untaken};

use crate::{
    Platform,
    apps::{Live, LiveApp},
};

/// Apps with their contracts, in the order in which they were first deployed.
pub struct World<'w> {
    apps: Vec<(&'w App, &'w Contracts)>,
    /// What was asked of a type once: many subscriptions ask the same.
    versions: RefCell<BTreeMap<String, Rc<Versions<'w>>>>,
}

/// The versions of a type's contract; several apps may have one of the same number.
type Versions<'w> = BTreeMap<Version, Vec<&'w Contract>>;

impl<'w> World<'w> {
    fn of(apps: Vec<(&'w App, &'w Contracts)>) -> Self {
        let versions = RefCell::default();
        Self { apps, versions }
    }

    /// One app, as if nothing else were deployed.
    #[must_use]
    pub fn alone(app: &'w App, contracts: &'w Contracts) -> Self {
        Self::of(vec![(app, contracts)])
    }

    pub(crate) fn live(live: &'w Live) -> Self {
        let of = |live: &'w Arc<LiveApp>| (&*live.app, &*live.contracts);
        Self::of(live.apps.iter().map(of).collect())
    }

    /// The same with `app` in the place of what it was before, if it was.
    pub(crate) fn with(&self, app: &'w App, contracts: &'w Contracts) -> Self {
        let mut apps = self.apps.clone();
        match apps.iter_mut().find(|(there, _)| there.name == app.name) {
            Some(place) => *place = (app, contracts),
            None => apps.push((app, contracts)),
        }
        Self::of(apps)
    }

    /// The same without an app.
    pub(crate) fn without(&self, app: &AppName) -> Self {
        let others = self.apps().filter(|(there, _)| there.name != *app);
        Self::of(others.collect())
    }

    fn apps(&self) -> impl Iterator<Item = (&'w App, &'w Contracts)> {
        self.apps.iter().copied()
    }

    /// All versions of a type's contract that its publishers keep to: those of the apps that publish it, else those of any.
    fn versions(&self, kind: &str) -> Rc<Versions<'w>> {
        if let Some(known) = self.versions.borrow().get(kind) {
            return Rc::clone(known);
        }
        let with = self.apps();
        let with: Vec<_> = with
            .filter_map(|(app, contracts)| Some((publishes(app, kind), contracts.versions(kind)?)))
            .collect();
        let published = with.iter().any(|(publishes, _)| *publishes);
        let mut all = Versions::new();
        for (publishes, versions) in with {
            if publishes || !published {
                for (version, contract) in versions {
                    all.entry(*version).or_default().push(contract);
                }
            }
        }
        let all = Rc::new(all);
        let mut known = self.versions.borrow_mut();
        known.insert(kind.to_owned(), Rc::clone(&all));
        all
    }
}

/// Whether anything of an app declares that it publishes a type.
fn publishes(app: &App, kind: &str) -> bool {
    let mut published = graph::published(app).into_iter();
    published.any(|(_, declared)| manifest::may_meet(&declared, kind))
}

impl Platform {
    /// Every type that a live app names, with its contract, who publishes it and who takes it.
    #[must_use]
    pub fn event_types(&self) -> Vec<Type> {
        graph(&World::live(&self.0.apps.live()))
    }
}
