//! What `before:` workloads said, for as long as it holds: bounded, and only ever for the same credentials with the same
//! method and address, since a workload that is asked sees these and may let one pass and not the other.
//!
//! Keyed by a cryptographic hash, because a collision would let one caller in with another's decision. Requests without
//! credentials are never remembered.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST},
    request::Parts,
    uri::PathAndQuery,
};
use model::Time;
use parking_lot::Mutex;
use platform::dispatch::Callee;
use sha2::{Digest, Sha256};

/// Decisions that are kept, at most.
const CAPACITY: usize = 16 << 10;

/// What a `before:` workload said when it let a request pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Headers for the target.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Who is acting.
    pub(crate) principal: Option<Arc<str>>,
}

/// The hash that a decision is kept under.
pub(crate) type Key = [u8; 32];

/// The decisions, in two generations: when the young one is full it becomes the old one, and that is forgotten.
#[derive(Default)]
pub(crate) struct Decisions(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Key, Kept>,
    old: HashMap<Key, Kept>,
}

#[derive(Clone)]
struct Kept {
    decision: Arc<Decision>,
    until: Time,
}

impl Decisions {
    /// What holds at `now` under `key`.
    pub(crate) fn find(&self, key: &Key, now: Time) -> Option<Arc<Decision>> {
        let generations = self.0.lock();
        let kept = generations
            .young
            .get(key)
            .or_else(|| generations.old.get(key))?;
        (kept.until > now).then(|| Arc::clone(&kept.decision))
    }

    /// Keeps `decision` until `until`.
    pub(crate) fn keep(&self, key: Key, decision: Arc<Decision>, until: Time) {
        let mut generations = self.0.lock();
        if generations.young.len() >= CAPACITY / 2 {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.old.remove(&key);
        generations.young.insert(key, Kept { decision, until });
    }
}

/// The key of what `callee` says to a request with this head; `None` when it carries no credentials.
pub(crate) fn key(callee: &Callee, head: &Parts) -> Option<Key> {
    let mut hash = Sha256::new();
    let mut any = false;
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(&callee.version.0);
    part(callee.target.app.as_str().as_bytes());
    part(callee.target.workload.as_str().as_bytes());
    part(head.method.as_str().as_bytes());
    let address = head.uri.path_and_query();
    part(address.map_or("", PathAndQuery::as_str).as_bytes());
    part(
        head.headers
            .get(HOST)
            .map_or(&[][..], HeaderValue::as_bytes),
    );
    for name in [AUTHORIZATION, COOKIE] {
        part(name.as_str().as_bytes());
        for value in head.headers.get_all(name) {
            any = true;
            part(value.as_bytes());
        }
    }
    any.then(|| hash.finalize().into())
}

/// How long an answer with these headers holds, when its route allows `allowed`: an answer may shorten that.
pub(crate) fn holds_for(headers: &HeaderMap, allowed: Duration) -> Duration {
    let values = headers
        .get_all(CACHE_CONTROL)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let directives = values.flat_map(|value| value.split(',')).map(str::trim);
    directives.fold(allowed, |holds, directive| {
        match directive.split_once('=') {
            Some((name, seconds)) if name.eq_ignore_ascii_case("max-age") => holds.min(
                Duration::from_secs(seconds.trim_matches('"').parse().unwrap_or(0)),
            ),
            None if directive.eq_ignore_ascii_case("no-store")
                || directive.eq_ignore_ascii_case("no-cache") =>
            {
                Duration::ZERO
            }
            _ => holds,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(n: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        key
    }

    #[test]
    fn a_decision_ends_with_its_time() {
        let decisions = Decisions::default();
        let until = Time::from_millis(60_000);
        decisions.keep(key_of(1), Arc::default(), until);
        assert!(
            decisions
                .find(&key_of(1), until - Duration::from_millis(1))
                .is_some()
        );
        assert!(decisions.find(&key_of(1), until).is_none());
        assert!(decisions.find(&key_of(2), Time(0)).is_none());
    }

    #[test]
    fn only_so_many_are_kept() {
        let decisions = Decisions::default();
        for n in 0..3 * CAPACITY {
            decisions.keep(key_of(n), Arc::default(), Time(1));
        }
        let generations = decisions.0.lock();
        assert!(generations.young.len() + generations.old.len() <= CAPACITY);
    }

    #[test]
    fn an_answer_may_shorten_how_long_it_holds() {
        let minute = Duration::from_secs(60);
        let holds = |text: &'static str| {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(text))]);
            holds_for(&headers, minute)
        };
        assert_eq!(holds_for(&HeaderMap::new(), minute), minute);
        assert_eq!(holds("private, max-age=5"), Duration::from_secs(5));
        assert_eq!(holds("max-age=3600"), minute);
        assert_eq!(holds("no-store"), Duration::ZERO);
        assert_eq!(holds("max-age=soon"), Duration::ZERO);
    }
}
