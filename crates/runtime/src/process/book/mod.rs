//! The books of a pool: which instances there are, what each works on, who waits for a place, and what follows.
//!
//! Pure: it knows no clock, no process and no channel. `H` is how its user knows an instance, `W` one who waits.
//! Whoever changes it asks [`Book::decide`] afterwards; deciding twice without a change does nothing the second time.

mod trouble;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use model::{Error, Scale, code};
use trouble::Trouble;

/// Those who may wait for a place at the same time.
const QUEUE: usize = 1_000;

/// What an instance is to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not ready yet.
    Starting,
    /// Takes requests.
    Ready(Instant),
    /// Was ready, and just refused a connection: takes nothing until it proves itself.
    Suspect(Instant),
    /// Takes nothing any more.
    Leaving(Option<Instant>),
}

/// An instance in the books.
#[derive(Debug)]
pub(super) struct Member<H> {
    pub(super) handle: H,
    pub(super) id: u64,
    pub(super) standing: Standing,
    pub(super) in_flight: u32,
    last_used: Instant,
}

/// The books.
pub(super) struct Book<H, W> {
    scale: Scale,
    members: Vec<Member<H>>,
    waiting: VecDeque<(u64, W)>,
    tickets: u64,
    trouble: Trouble,
    closing: bool,
    pub(super) starts: u64,
    pub(super) failures: u64,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision<H> {
    /// Instances to start.
    pub(super) start: u32,
    /// Instances that now leave.
    pub(super) retire: Vec<H>,
    /// When to decide again at the latest.
    pub(super) again: Option<Instant>,
}

/// What a freed place leads to.
pub(super) struct Freed<H, W> {
    /// The place goes on to this one.
    pub(super) next: Option<(W, H)>,
    /// Whether somebody waits for the instance, or for all, to work on nothing, and it now does.
    pub(super) quiet: bool,
}

impl<H: Clone, W> Book<H, W> {
    pub(super) fn new(scale: Scale) -> Self {
        let scale = Scale {
            max: scale.max.max(scale.min).max(1),
            concurrency: scale.concurrency.max(1),
            ..scale
        };
        Self {
            scale,
            members: Vec::new(),
            waiting: VecDeque::new(),
            tickets: 0,
            trouble: Trouble::default(),
            closing: false,
            starts: 0,
            failures: 0,
        }
    }

    pub(super) fn members(&self) -> &[Member<H>] {
        &self.members
    }

    /// A place with the instance that has most room, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> Option<H> {
        let most = self.scale.concurrency;
        let member = self
            .members
            .iter_mut()
            .filter(|m| matches!(m.standing, Standing::Ready(_)) && m.in_flight < most)
            .min_by_key(|m| m.in_flight)?;
        member.in_flight += 1;
        member.last_used = now;
        Some(member.handle.clone())
    }

    /// Why one without a place should not wait for one.
    pub(super) fn refusal(&self, now: Instant) -> Option<Error> {
        if self.closing && self.members.iter().all(Member::is_leaving) {
            return Some(Error::new(
                code::WORKLOAD_GONE,
                "this version of the workload is being removed",
            ));
        }
        if self.waiting.len() >= QUEUE {
            let error = Error::new(
                code::CONCURRENCY_LIMIT,
                "too many requests wait for a place",
            );
            return Some(error.retry_after(Duration::from_secs(1)));
        }
        self.failing(now)
    }

    /// Why nothing is served at all, when that is so.
    fn failing(&self, now: Instant) -> Option<Error> {
        let alone = self.members.iter().all(Member::is_leaving);
        self.trouble.hopeless(now).filter(|_| alone)
    }

    /// Queues one who waits; the ticket takes them out again.
    pub(super) fn wait(&mut self, waiter: W) -> u64 {
        self.tickets += 1;
        self.waiting.push_back((self.tickets, waiter));
        self.tickets
    }

    /// Who gave up waiting.
    pub(super) fn forget(&mut self, ticket: u64) -> Option<W> {
        let at = self.waiting.iter().position(|(t, _)| *t == ticket)?;
        self.waiting.remove(at).map(|(_, waiter)| waiter)
    }

    /// A place became free.
    pub(super) fn release(&mut self, id: u64, now: Instant) -> Freed<H, W> {
        let most = self.scale.concurrency;
        let Some(member) = self.members.iter_mut().find(|m| m.id == id) else {
            return Freed {
                next: None,
                quiet: true,
            };
        };
        member.in_flight = member.in_flight.saturating_sub(1);
        member.last_used = now;
        let mut next = None;
        if matches!(member.standing, Standing::Ready(_))
            && member.in_flight < most
            && let Some((_, waiter)) = self.waiting.pop_front()
        {
            member.in_flight += 1;
            next = Some((waiter, member.handle.clone()));
        }
        Freed {
            next,
            quiet: member.in_flight == 0 && (self.closing || member.is_leaving()),
        }
    }

    pub(super) fn add(&mut self, id: u64, handle: H, now: Instant) {
        self.starts += 1;
        self.members.push(Member {
            handle,
            id,
            standing: Standing::Starting,
            in_flight: 0,
            last_used: now,
        });
    }

    /// An instance takes requests, for the first time or again: those who now get a place with it. `None` when that
    /// is no news.
    pub(super) fn ready(&mut self, id: u64, now: Instant) -> Option<Vec<(W, H)>> {
        let most = self.scale.concurrency;
        let member = self.members.iter_mut().find(|m| m.id == id)?;
        match member.standing {
            Standing::Starting => member.standing = Standing::Ready(now),
            Standing::Suspect(since) => member.standing = Standing::Ready(since),
            Standing::Ready(_) | Standing::Leaving(_) => return None,
        }
        member.last_used = now;
        self.trouble.succeeded();
        let mut served = Vec::new();
        while member.in_flight < most
            && let Some((_, waiter)) = self.waiting.pop_front()
        {
            member.in_flight += 1;
            served.push((waiter, member.handle.clone()));
        }
        Some(served)
    }

    /// An instance refused a connection. Returns whether that is news.
    pub(super) fn suspect(&mut self, id: u64) -> bool {
        match self.members.iter_mut().find(|m| m.id == id) {
            Some(member) => match member.standing {
                Standing::Ready(since) => {
                    member.standing = Standing::Suspect(since);
                    true
                }
                Standing::Starting | Standing::Suspect(_) | Standing::Leaving(_) => false,
            },
            None => false,
        }
    }

    /// An instance does not serve any more, though it still runs.
    pub(super) fn unhealthy(&mut self, id: u64, error: Error, now: Instant) {
        let Some(member) = self.members.iter_mut().find(|m| m.id == id) else {
            return;
        };
        let ready = member.ready_since();
        member.standing = Standing::Leaving(ready);
        self.failed(ready, error, now);
    }

    /// An instance is gone: as it was told to, or for a reason. Those who now wait in vain are returned.
    pub(super) fn ended(
        &mut self,
        id: u64,
        result: Result<(), Error>,
        now: Instant,
    ) -> Vec<(W, Error)> {
        let Some(at) = self.members.iter().position(|m| m.id == id) else {
            return Vec::new();
        };
        let member = self.members.swap_remove(at);
        if let Err(error) = result
            && !member.is_leaving()
        {
            self.failed(member.ready_since(), error, now);
        }
        let hopeless = self.failing(now).or_else(|| self.given_up());
        match hopeless {
            None => Vec::new(),
            Some(error) => self
                .waiting
                .drain(..)
                .map(|(_, waiter)| (waiter, error.clone()))
                .collect(),
        }
    }

    fn failed(&mut self, ready: Option<Instant>, error: Error, now: Instant) {
        self.failures += 1;
        self.trouble.failed(ready, error, now);
    }

    /// A pool that closes does not try again.
    fn given_up(&self) -> Option<Error> {
        let error = self.trouble.error()?;
        (self.closing && self.members.iter().all(Member::is_leaving)).then(|| error.clone())
    }

    /// From now on nothing is kept for later. Returns whether that is news.
    pub(super) fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closing, true)
    }

    /// Whether nobody works and nobody waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.members.iter().all(|m| m.in_flight == 0)
    }

    /// Every instance leaves now. Those who still wait are returned.
    pub(super) fn expel(&mut self) -> (Vec<H>, Vec<W>) {
        let members = self.members.iter_mut();
        let leaving = members
            .map(|member| {
                member.standing = Standing::Leaving(member.ready_since());
                member.handle.clone()
            })
            .collect();
        let waiting = self.waiting.drain(..).map(|(_, waiter)| waiter).collect();
        (leaving, waiting)
    }

    /// How many instances take requests.
    pub(super) fn ready_count(&self) -> u32 {
        let ready = |m: &&Member<H>| matches!(m.standing, Standing::Ready(_));
        count(self.members.iter().filter(ready))
    }

    /// The last failure, when no start succeeded since.
    pub(super) fn trouble(&self) -> Option<&Error> {
        self.trouble.error()
    }

    /// What is to be done now. Those it retires have left the books' service when this returns; those it wants
    /// started are to be added by the caller.
    pub(super) fn decide(&mut self, now: Instant) -> Decision<H> {
        let target = self.target();
        let active = count(self.members.iter().filter(|m| !m.is_leaving()));
        let mut decision = Decision {
            start: target.saturating_sub(active),
            retire: Vec::new(),
            again: None,
        };
        if decision.start > 0
            && let Some(not_before) = self.trouble.pause(now)
        {
            decision.start = 0;
            decision.look_again(not_before);
        }
        self.retire_idle(active.saturating_sub(target), now, &mut decision);
        if active > self.least() {
            // Who becomes idle tells nobody, so that requests wake nobody: it is looked for in time.
            decision.look_again(now + self.idle());
        }
        decision
    }

    /// Instances that are kept without any load.
    const fn least(&self) -> u32 {
        if self.closing { 0 } else { self.scale.min }
    }

    /// How long one more than needed may idle.
    const fn idle(&self) -> Duration {
        if self.closing {
            Duration::ZERO
        } else {
            self.scale.idle
        }
    }

    /// Instances that the load asks for, between `min` and `max`.
    fn target(&self) -> u32 {
        let working: u32 = self
            .members
            .iter()
            .filter(|m| !m.is_leaving())
            .map(|m| m.in_flight)
            .sum();
        let load = working.saturating_add(count(self.waiting.iter()));
        load.div_ceil(self.scale.concurrency)
            .clamp(self.least(), self.scale.max)
    }

    /// Retires up to `surplus` instances that have idled for long enough, the longest first.
    fn retire_idle(&mut self, surplus: u32, now: Instant, decision: &mut Decision<H>) {
        let idle = self.idle();
        for _ in 0..surplus {
            let oldest = self
                .members
                .iter_mut()
                .filter(|m| matches!(m.standing, Standing::Ready(_)) && m.in_flight == 0)
                .min_by_key(|m| m.last_used);
            let Some(member) = oldest else {
                return;
            };
            let due = member.last_used + idle;
            if due > now {
                return decision.look_again(due);
            }
            member.standing = Standing::Leaving(member.ready_since());
            decision.retire.push(member.handle.clone());
        }
    }
}

impl<H> Decision<H> {
    fn look_again(&mut self, at: Instant) {
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }
}

impl<H> Member<H> {
    fn is_leaving(&self) -> bool {
        matches!(self.standing, Standing::Leaving(_))
    }

    const fn ready_since(&self) -> Option<Instant> {
        match self.standing {
            Standing::Starting => None,
            Standing::Ready(since) | Standing::Suspect(since) => Some(since),
            Standing::Leaving(since) => since,
        }
    }
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
