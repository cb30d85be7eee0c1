//! How many instances the load asks for, and since when: what was seen at some times in, a number of instances out.
//!
//! Pure. More are started when more were asked for during all of `up`, fewer are kept when fewer were enough during all
//! of `down`, and the last beyond `min` goes when there was nothing to do during all of `idle`. Only the first is started
//! at once. So whatever the load does, nothing that leaves was asked for within `down`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use model::Scale;

/// Pieces that a window is seen in: its length is kept to that part of it, rounded up.
const PIECES: u32 = 64;

/// How often the load is looked at, at the least and at the most.
const STEPS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// What is asked of all instances together at one time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    /// Requests that are worked on or wait.
    pub(super) requests: u32,
    /// The most there were of them since the load was last looked at.
    pub(super) peak: u32,
    /// What the pool does not know of itself.
    pub(super) seen: Seen,
}

/// What is seen of a workload from outside of its requests; `None`: nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::process) struct Seen {
    /// Thousandths of a CPU that its instances use together.
    pub(in crate::process) cpu: Option<u64>,
    /// Deliveries that wait or are under way.
    pub(in crate::process) backlog: Option<u64>,
}

/// What was asked for lately.
#[derive(Debug)]
pub(super) struct Demand {
    scale: Scale,
    /// Thousandths of a CPU that one instance may use.
    quota: u64,
    /// Instances asked for now.
    now: u32,
    up: Window,
    down: Window,
    /// 1 while there was something to do.
    idle: Window,
}

impl Demand {
    /// Of instances that may use `quota` thousandths of a CPU each.
    pub(super) fn new(scale: Scale, quota: u32) -> Self {
        Self {
            scale,
            quota: u64::from(quota.max(1)),
            now: 0,
            up: Window::new(scale.up, u32::min),
            down: Window::new(scale.down.unwrap_or(scale.idle), u32::max),
            idle: Window::new(scale.idle, u32::max),
        }
    }

    /// Takes in what is seen at `now`; times only grow.
    pub(super) fn observe(&mut self, now: Instant, load: &Load) {
        self.now = self.asked(load.requests, &load.seen);
        let peak = self.asked(load.peak.max(load.requests), &load.seen);
        self.up.add(now, self.now);
        self.down.add(now, peak);
        self.idle.add(now, peak.min(1));
    }

    /// How many instances there should be where there are `active`.
    pub(super) fn target(&self, now: Instant, active: u32) -> u32 {
        // Who finds nobody there is not kept waiting for longer than a start takes.
        let more = self.up.value(now).unwrap_or(0).max(self.now.min(1));
        let enough = self.down.value(now).unwrap_or(u32::MAX);
        let enough = enough.max(self.idle.value(now).unwrap_or(1));
        let target = match active {
            active if more > active => more,
            active => active.min(enough),
        };
        target.clamp(self.scale.min, self.scale.max)
    }

    /// Instances that so many requests have places with.
    pub(super) fn places(&self, requests: u32) -> u32 {
        requests
            .div_ceil(self.scale.concurrency)
            .min(self.scale.max)
    }

    /// When to look again, where `active` instances are kept and `waiting` requests wait; `None`: when something happens.
    pub(super) fn next_look(&self, active: u32, waiting: bool) -> Option<Duration> {
        let Scale { min, max, on, .. } = self.scale;
        // Who becomes idle tells nobody, so that requests wake nobody: it is looked for in time.
        let may_shrink = active > min;
        let watched = !on.is_empty() || !self.scale.up.is_zero();
        let may_grow = active < max && watched && (active > 0 || waiting);
        (may_shrink || may_grow).then(|| {
            let windows = [self.up.span, self.down.span, self.idle.span];
            let shortest = windows.into_iter().filter(|span| !span.is_zero()).min();
            (shortest.unwrap_or(STEPS[1]) / 8).clamp(STEPS[0], STEPS[1])
        })
    }

    /// Instances that are asked for, whenever; 0: nothing is to be done.
    fn asked(&self, requests: u32, seen: &Seen) -> u32 {
        let Scale {
            on,
            concurrency,
            max,
            ..
        } = self.scale;
        let share = on.concurrency.or_else(|| on.is_empty().then_some(100));
        let by_requests = share.map(|percent| {
            let places = u64::from(concurrency) * u64::from(percent);
            (u64::from(requests) * 100).div_ceil(places.max(1))
        });
        let by_cpu = on.cpu.zip(seen.cpu).map(|(percent, millis)| {
            let of_one = (self.quota * u64::from(percent)).max(1);
            // What is there at all uses some CPU: that alone asks for nobody.
            match (millis * 100).div_ceil(of_one) {
                1 => 0,
                more => more,
            }
        });
        let by_backlog = on.backlog.zip(seen.backlog);
        let by_backlog = by_backlog.map(|(each, waiting)| waiting.div_ceil(u64::from(each.max(1))));
        let all = [by_requests, by_cpu, by_backlog];
        let most = all.into_iter().flatten().max().unwrap_or(0);
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        most.max(requests.min(1)).min(max)
    }
}

/// The least or the greatest of a value over the time that has just passed.
#[derive(Debug)]
struct Window {
    span: Duration,
    /// Values that are kept as one.
    grain: Duration,
    pick: fn(u32, u32) -> u32,
    /// Since when, and the picked one of the values from then until the next entry's time.
    pieces: VecDeque<(Instant, u32)>,
}

impl Window {
    fn new(span: Duration, pick: fn(u32, u32) -> u32) -> Self {
        Self {
            span,
            grain: span / PIECES,
            pick,
            pieces: VecDeque::new(),
        }
    }

    fn add(&mut self, now: Instant, value: u32) {
        match self.pieces.back_mut() {
            Some((since, kept)) if now < *since + self.grain => *kept = (self.pick)(*kept, value),
            _ => self.pieces.push_back((now, value)),
        }
        // The oldest piece is the one that held when the window began.
        let begin = now.checked_sub(self.span);
        while let Some((next, _)) = self.pieces.get(1)
            && begin.is_some_and(|begin| *next <= begin)
        {
            self.pieces.pop_front();
        }
    }

    /// `None` until it was watched for so long.
    fn value(&self, now: Instant) -> Option<u32> {
        let (first, _) = self.pieces.front()?;
        let watched = now.saturating_duration_since(*first) >= self.span;
        let values = self.pieces.iter().map(|(_, value)| *value);
        values.reduce(self.pick).filter(|_| watched)
    }
}

#[cfg(test)]
#[path = "demand_tests.rs"]
mod tests;
