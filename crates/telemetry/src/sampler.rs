//! Which traces are kept: all at development rates, beyond that the erroneous, the slow, and a fair share of the
//! ordinary, each within a budget per route. Pure: the time is given.

use std::{collections::HashMap, sync::Arc, time::Duration};

use model::Time;

use crate::{histogram::Histogram, options::Sampling};

/// Routes remembered apart; what comes beyond shares one memory.
const ROUTES: usize = 512;

/// How long durations count as recent: between one and two of these.
const RECENT: Duration = Duration::from_secs(60);

/// Fewer durations than this say nothing about what is slow.
const ENOUGH: u64 = 100;

/// What became of a trace, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep(Why),
    Drop,
}

/// Why a trace is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Few enough come to keep all.
    All,
    /// Something in it failed.
    Error,
    /// It took longer than its route's recent p99.
    Slow,
    /// Its route's turn.
    Share,
}

/// What of a trace decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) route: &'a str,
    pub(crate) duration: Duration,
    pub(crate) error: bool,
}

/// What was seen lately.
pub(crate) struct Sampler {
    sampling: Sampling,
    routes: HashMap<Arc<str>, Route>,
    /// Traces in the current second and in the one before.
    second: u64,
    count: u32,
    before: u32,
}

#[derive(Default)]
struct Route {
    recent: Histogram,
    earlier: Histogram,
    /// When `recent` began.
    since: Time,
    /// The second that the rest speaks of.
    second: u64,
    /// What is longer than the p99 as of that second; `None` while too little was seen.
    slow: Option<Duration>,
    shares: u32,
    slows: u32,
    errors: u32,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            routes: HashMap::new(),
            second: 0,
            count: 0,
            before: 0,
        }
    }

    /// Decides about a trace whose local root has ended.
    pub(crate) fn judge(&mut self, facts: Facts<'_>, now: Time) -> Verdict {
        let few = self.count_more(1, now) <= self.sampling.keep_all_below;
        let sampling = self.sampling;
        let route = self.route(facts.route, now);
        let verdict = route.judge(facts, &sampling);
        route.recent.record(facts.duration);
        match verdict {
            Verdict::Drop if few => Verdict::Keep(Why::All),
            other => other,
        }
    }

    /// Counts traces of a route that were dropped before anyone asked. Returns from how long on one of it is slow.
    pub(crate) fn count_dropped(
        &mut self,
        route: &str,
        dropped: &Histogram,
        now: Time,
    ) -> Option<Duration> {
        self.count_more(u32::try_from(dropped.count()).unwrap_or(u32::MAX), now);
        let route = self.route(route, now);
        route.recent.add(dropped);
        route.slow
    }

    /// The last second in which certainly more come than are all kept, as far as was counted; `None` where fewer come.
    pub(crate) fn busy_until(&self, now: Time) -> Option<u64> {
        let (second, many) = (now.as_millis() / 1000, self.sampling.keep_all_below);
        let next = (self.count > many).then_some(self.second + 1);
        let this = (self.before > many).then_some(self.second);
        next.or(this).filter(|until| *until >= second)
    }

    /// Counts so many more traces; returns how many came in this second or the one before, whichever had more.
    fn count_more(&mut self, more: u32, now: Time) -> u32 {
        let second = now.as_millis() / 1000;
        if second != self.second {
            self.before = if second == self.second + 1 {
                self.count
            } else {
                0
            };
            self.second = second;
            self.count = 0;
        }
        self.count = self.count.saturating_add(more);
        self.count.max(self.before)
    }

    fn route(&mut self, name: &str, now: Time) -> &mut Route {
        let known = self.routes.contains_key(name);
        if !known && self.routes.len() >= ROUTES {
            self.routes
                .retain(|_, route| now.since(route.since) < 2 * RECENT);
        }
        let name = if known || self.routes.len() < ROUTES {
            name
        } else {
            ""
        };
        if !self.routes.contains_key(name) {
            self.routes.insert(Arc::from(name), Route::default());
        }
        let route = self
            .routes
            .get_mut(name)
            .expect("inserted above when absent");
        route.turn(now);
        route
    }
}

impl Route {
    /// Forgets what is no longer recent and begins a new second's budget.
    fn turn(&mut self, now: Time) {
        if now.since(self.since) >= RECENT {
            std::mem::swap(&mut self.recent, &mut self.earlier);
            self.recent.clear();
            self.since = now;
        }
        let second = now.as_millis() / 1000;
        if second != self.second {
            self.second = second;
            self.slow = self.p99();
            (self.shares, self.slows, self.errors) = (0, 0, 0);
        }
    }

    fn p99(&self) -> Option<Duration> {
        if self.recent.count() + self.earlier.count() < ENOUGH {
            return None;
        }
        let mut both = self.recent.clone();
        both.add(&self.earlier);
        Some(both.beyond(0.99))
    }

    fn judge(&mut self, facts: Facts<'_>, sampling: &Sampling) -> Verdict {
        let slow = self.slow.is_some_and(|slow| facts.duration >= slow);
        if facts.error && spend(&mut self.errors, sampling.errors_per_route) {
            Verdict::Keep(Why::Error)
        } else if slow && spend(&mut self.slows, sampling.slow_per_route) {
            Verdict::Keep(Why::Slow)
        } else if spend(&mut self.shares, sampling.per_route) {
            Verdict::Keep(Why::Share)
        } else {
            Verdict::Drop
        }
    }
}

const fn spend(spent: &mut u32, budget: u32) -> bool {
    let left = *spent < budget;
    if left {
        *spent += 1;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Sampling = Sampling {
        keep_all_below: 10,
        per_route: 2,
        slow_per_route: 3,
        errors_per_route: 4,
        memory: model::ByteSize::mib(1),
    };

    fn facts(route: &str, millis: u64, error: bool) -> Facts<'_> {
        Facts {
            route,
            duration: Duration::from_millis(millis),
            error,
        }
    }

    fn second(n: u64) -> Time {
        Time::from_millis(1_000_000 + n * 1000)
    }

    fn kept(sampler: &mut Sampler, n: usize, facts: Facts<'_>, now: Time) -> usize {
        let verdicts = (0..n).map(|_| sampler.judge(facts, now));
        verdicts.filter(|v| *v != Verdict::Drop).count()
    }

    #[test]
    fn all_are_kept_at_development_rates() {
        let mut sampler = Sampler::new(BUSY);
        for n in 0..100 {
            assert_eq!(kept(&mut sampler, 10, facts("/", 1, false), second(n)), 10);
        }
    }

    #[test]
    fn beyond_that_each_route_has_its_share() {
        let mut sampler = Sampler::new(BUSY);
        kept(&mut sampler, 1000, facts("/busy", 1, false), second(0));
        assert_eq!(
            kept(&mut sampler, 1000, facts("/busy", 1, false), second(1)),
            2
        );
        assert_eq!(
            kept(&mut sampler, 1, facts("/quiet", 1, false), second(1)),
            1
        );
        assert_eq!(
            kept(&mut sampler, 5, facts("/quiet", 1, false), second(9)),
            5
        );
    }

    #[test]
    fn errors_and_slow_ones_are_kept_within_their_budgets() {
        let mut sampler = Sampler::new(BUSY);
        kept(&mut sampler, 1000, facts("/", 10, false), second(0));
        kept(&mut sampler, 1000, facts("/", 10, false), second(1));
        let slow = sampler.judge(facts("/", 30, false), second(1));
        assert_eq!(slow, Verdict::Keep(Why::Slow));
        assert_eq!(kept(&mut sampler, 100, facts("/", 30, false), second(1)), 2);
        let failed = sampler.judge(facts("/", 1, true), second(1));
        assert_eq!(failed, Verdict::Keep(Why::Error));
        assert_eq!(kept(&mut sampler, 100, facts("/", 1, true), second(1)), 3);
    }

    #[test]
    fn what_is_slow_follows_the_route() {
        let mut sampler = Sampler::new(BUSY);
        for n in 0..300 {
            kept(&mut sampler, 50, facts("/", 10 + n, false), second(n));
        }
        kept(&mut sampler, 20, facts("/", 1, false), second(300));
        assert_eq!(
            sampler.judge(facts("/", 150, false), second(300)),
            Verdict::Drop
        );
        assert_eq!(
            sampler.judge(facts("/", 400, false), second(300)),
            Verdict::Keep(Why::Slow)
        );
    }

    #[test]
    fn routes_without_end_share_one_memory() {
        let mut sampler = Sampler::new(BUSY);
        (0..10_000).for_each(|n| {
            sampler.judge(facts(&format!("/{n}"), 1, false), second(0));
        });
        assert!(sampler.routes.len() <= ROUTES + 1);
        sampler.judge(facts("/later", 1, false), second(1000));
        assert!(sampler.routes.contains_key("/later"));
    }
}
