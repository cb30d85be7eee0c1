//! The books of a pool: which instances there are, what each works on, who waits for a place, and what follows.
//!
//! Pure: it knows no clock, no process and no channel. `H` is how its user knows an instance, `W` one who waits.
//! Whoever changes it asks [`Book::decide`] afterwards; deciding twice without a change does nothing the second time.

mod decide;
mod demand;
mod trouble;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use demand::Demand;
pub(super) use demand::Seen;
use model::{Error, Scale, code};
use trouble::Trouble;

/// Those who may wait for a place at the same time.
const QUEUE: usize = 1_000;

/// What an instance is to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not ready yet.
    Starting,
    /// Has started, and asks for no requests (yet, or for now).
    Unready(Instant),
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
    demand: Demand,
    /// The most requests at the same time since that was last decided upon.
    peak: u32,
    closing: bool,
    pub(super) starts: u64,
    pub(super) failures: u64,
    /// Instances that were alive and then failed their liveness probe.
    pub(super) replaced: u64,
}

/// What a freed place leads to.
pub(super) struct Freed<H, W> {
    /// The place goes on to this one.
    pub(super) next: Option<(W, H)>,
    /// Whether somebody waits for the instance, or for all, to work on nothing, and it now does.
    pub(super) quiet: bool,
}

impl<H: Clone, W> Book<H, W> {
    /// Of instances that may use `quota` thousandths of a CPU each.
    pub(super) fn new(scale: Scale, quota: u32) -> Self {
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
            demand: Demand::new(scale, quota),
            peak: 0,
            closing: false,
            starts: 0,
            failures: 0,
            replaced: 0,
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
        let taken = member.handle.clone();
        self.peak = self.peak.max(self.requests());
        Some(taken)
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
        self.peak = self.peak.max(self.requests());
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
            Standing::Suspect(since) | Standing::Unready(since) => {
                member.standing = Standing::Ready(since);
            }
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

    /// An instance has started, and takes nothing before it is ready.
    pub(super) fn started(&mut self, id: u64, now: Instant) {
        if let Some(member) = self.members.iter_mut().find(|m| m.id == id)
            && member.standing == Standing::Starting
        {
            member.standing = Standing::Unready(now);
            self.trouble.succeeded();
        }
    }

    /// An instance takes nothing for now. Returns whether that is news.
    pub(super) fn unready(&mut self, id: u64) -> bool {
        let member = self.members.iter_mut().find(|m| m.id == id);
        if let Some(member) = member
            && let Standing::Ready(since) | Standing::Suspect(since) = member.standing
        {
            member.standing = Standing::Unready(since);
            return true;
        }
        false
    }

    /// Whether an instance refused a connection, and has not proved itself since.
    pub(super) fn is_suspect(&self, id: u64) -> bool {
        let mut members = self.members.iter();
        members.any(|m| m.id == id && matches!(m.standing, Standing::Suspect(_)))
    }

    /// Since when the one has started that waits for longest to be ready for requests.
    pub(super) fn unready_since(&self) -> Option<Instant> {
        let since = |m: &Member<H>| match m.standing {
            Standing::Unready(since) => Some(since),
            _ => None,
        };
        self.members.iter().filter_map(since).min()
    }

    /// An instance refused a connection. Returns whether that is news.
    pub(super) fn suspect(&mut self, id: u64) -> bool {
        match self.members.iter_mut().find(|m| m.id == id) {
            Some(member) => match member.standing {
                Standing::Ready(since) => {
                    member.standing = Standing::Suspect(since);
                    true
                }
                _ => false,
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
        self.replaced += 1;
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
}

impl<H> Member<H> {
    fn is_leaving(&self) -> bool {
        matches!(self.standing, Standing::Leaving(_))
    }

    const fn ready_since(&self) -> Option<Instant> {
        match self.standing {
            Standing::Starting => None,
            Standing::Unready(since) | Standing::Ready(since) | Standing::Suspect(since) => {
                Some(since)
            }
            Standing::Leaving(since) => since,
        }
    }
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
