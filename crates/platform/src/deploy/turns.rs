//! Who waits for whom among deploys: those of one app for each other, all for what only takes a moment.
//!
//! A deploy that waits for its instances keeps other apps waiting for nothing. What it brings up meanwhile is claimed,
//! so that nobody who tidies up takes it away.

use std::{collections::HashMap, sync::Arc};

use model::{AppName, VersionId};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// The turns of every app that has a deploy under way.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<AppName, Arc<tokio::sync::Mutex<()>>>>);

/// Versions that are brought up. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<HashMap<VersionId, usize>>>);

/// A claim on some versions, for as long as it is kept.
pub(super) struct Claim {
    claims: Claims,
    versions: Vec<VersionId>,
}

impl Turns {
    /// Waits for the deploys of `app` that came before.
    pub(super) async fn of(&self, app: &AppName) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock();
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(app.clone()).or_default())
        };
        turn.lock_owned().await
    }
}

impl Claims {
    pub(super) fn claim(&self, versions: impl IntoIterator<Item = VersionId>) -> Claim {
        let versions: Vec<VersionId> = versions.into_iter().collect();
        let mut claimed = self.0.lock();
        for version in &versions {
            *claimed.entry(*version).or_default() += 1;
        }
        Claim {
            claims: self.clone(),
            versions,
        }
    }

    /// Whether somebody brings this version up.
    pub(super) fn hold(&self, version: VersionId) -> bool {
        self.0.lock().contains_key(&version)
    }

    /// Whether nobody brings anything up.
    pub(super) fn are_none(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.claims.0.lock();
        for version in &self.versions {
            if let Some(count) = claimed.get_mut(version) {
                *count -= 1;
                if *count == 0 {
                    claimed.remove(version);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use model::Name;

    use super::*;

    #[test]
    fn deploys_of_one_app_wait_for_each_other_and_those_of_others_do_not() {
        let turns = Turns::default();
        let now = |app: &'static str| turns.of(&Name::literal(app)).now_or_never();
        let first = now("shop").expect("nobody is before it");
        assert!(now("shop").is_none());
        assert!(now("mails").is_some());
        drop(first);
        assert!(now("shop").is_some());
        assert!(
            now("other").is_some() && turns.0.lock().len() <= 1,
            "nothing is kept"
        );
    }

    #[test]
    fn what_two_bring_up_is_claimed_until_both_are_done() {
        let claims = Claims::default();
        let [a, b] = [1, 2].map(|n| VersionId([n; 32]));
        let first = claims.claim([a, b]);
        let second = claims.claim([a]);
        drop(first);
        assert!(claims.hold(a) && !claims.hold(b));
        drop(second);
        assert!(claims.are_none());
    }
}
