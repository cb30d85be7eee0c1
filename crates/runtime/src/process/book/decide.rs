//! What the books make of it all: who is to be started, who leaves, and when to look again.

use std::time::{Duration, Instant};

use super::{Book, Member, Standing, count, demand::Load, demand::Seen};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::process) struct Decision<H> {
    /// Instances to start.
    pub(in crate::process) start: u32,
    /// Instances that now leave.
    pub(in crate::process) retire: Vec<H>,
    /// When to decide again at the latest.
    pub(in crate::process) again: Option<Instant>,
}

impl<H: Clone, W> Book<H, W> {
    /// What is to be done now. Those it retires have left the books' service when this returns; those it wants
    /// started are to be added by the caller.
    pub(in crate::process) fn decide(&mut self, now: Instant, seen: Seen) -> Decision<H> {
        let requests = self.requests();
        let peak = std::mem::replace(&mut self.peak, requests);
        let load = Load {
            requests,
            peak,
            seen,
        };
        self.demand.observe(now, &load);
        let active = count(self.members.iter().filter(|m| !m.is_leaving()));
        let target = match self.closing {
            true => self.demand.places(requests),
            false => self.demand.target(now, active),
        };
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
        for _ in target..active {
            decision.retire.extend(self.retire_one());
        }
        let waiting = !self.waiting.is_empty();
        if let Some(step) = self.demand.next_look(active.max(target), waiting) {
            decision.look_again(now + step);
        }
        decision
    }

    /// Requests that are worked on by who stays, or wait.
    pub(super) fn requests(&self) -> u32 {
        let staying = self.members.iter().filter(|m| !m.is_leaving());
        let working: u32 = staying.map(|m| m.in_flight).sum();
        working.saturating_add(count(self.waiting.iter()))
    }

    /// One that is ready, or once was, leaves: who has least to finish, and of those who was idle for longest. When all
    /// is closing, only who has nothing left.
    fn retire_one(&mut self) -> Option<H> {
        let most = if self.closing { 0 } else { u32::MAX };
        let may = |m: &&mut Member<H>| {
            let there = matches!(m.standing, Standing::Ready(_) | Standing::Unready(_));
            there && m.in_flight <= most
        };
        let unready = |m: &Member<H>| matches!(m.standing, Standing::Unready(_));
        let members = self.members.iter_mut().filter(may);
        let member = members.min_by_key(|m| (m.in_flight, !unready(m), m.last_used))?;
        member.standing = Standing::Leaving(member.ready_since());
        Some(member.handle.clone())
    }
}

impl<H> Decision<H> {
    fn look_again(&mut self, at: Instant) {
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }

    /// How long to wait, `longest` at most.
    pub(in crate::process) fn pause(&self, now: Instant, longest: Duration) -> Duration {
        let again = self.again.map(|at| at.saturating_duration_since(now));
        again.map_or(longest, |again| again.min(longest))
    }
}
