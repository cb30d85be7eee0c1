//! Who waits for an instance and who is free: the decisions of a pool, under its lock.
//!
//! No I/O and no tasks: what is to be done (start so many, give this one to that waiter) is returned to the pool.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use model::{ColdStart, InstanceId, Time};
use tokio::sync::oneshot;

use super::{instance::Instance, pool::Place, start::StartFailure};
use crate::pool::Ended;

/// The state of a pool.
#[derive(Default)]
pub(crate) struct Places {
    /// Free instances, each as often as it has room; the one freed last is taken first, so that the others can be stopped.
    pub(crate) idle: Vec<Arc<Instance>>,
    /// Every instance, starting ones included.
    all: Vec<Member>,
    /// Who waits, in order.
    pub(crate) waiting: VecDeque<Waiter>,
    /// Instances that have answered and will ask for work at once.
    pub(crate) soon: Vec<InstanceId>,
    /// Instances that are being started.
    pub(crate) starting: usize,
    /// Instances that are being started or run.
    pub(crate) live: usize,
    /// No more work is taken.
    pub(crate) draining: bool,
    /// `scale.min` is kept up.
    pub(crate) kept: bool,
    /// A task stops what idles too long.
    pub(crate) reaping: bool,
    /// Instances started.
    pub(crate) starts: u64,
    /// Starts that failed and instances that died.
    pub(crate) failures: u64,
    /// What those used that are not there any more.
    pub(crate) ended: Ended,
    /// Starts that failed since the last that did not.
    pub(crate) failed_in_a_row: u32,
}

/// An instance of the pool.
pub(crate) struct Member {
    pub(crate) instance: Arc<Instance>,
    /// Its start has ended well: it counts as live until it is gone.
    started: bool,
}

/// Somebody who waits for an instance.
pub(crate) struct Waiter {
    pub(crate) grant: oneshot::Sender<Result<Grant, StartFailure>>,
}

/// An instance for somebody who waited.
pub(crate) struct Grant {
    pub(crate) place: Place,
    /// Set when it was started just now.
    pub(crate) fresh: Option<ColdStart>,
}

impl Places {
    /// How many instances, of which each serves `each` at a time, must be started for those who wait, given at most
    /// `max` instances and `at_once` starts. The starts are counted as begun.
    pub(crate) fn wanted(&mut self, max: usize, at_once: usize, each: usize) -> usize {
        self.waiting.retain(|waiter| !waiter.grant.is_closed());
        let unserved = self
            .waiting
            .len()
            .saturating_sub(self.soon.len())
            .div_ceil(each)
            .saturating_sub(self.starting);
        let room = max
            .saturating_sub(self.live)
            .min(at_once.saturating_sub(self.starting));
        self.begin_starts(unserved.min(room))
    }

    /// How many instances must be started so that `min` are there.
    pub(crate) fn missing(&mut self, min: usize) -> usize {
        let missing = min.saturating_sub(self.live);
        self.begin_starts(missing)
    }

    fn begin_starts(&mut self, count: usize) -> usize {
        self.starting += count;
        self.live += count;
        count
    }

    /// Every instance, starting ones included.
    pub(crate) fn instances(&self) -> Vec<Arc<Instance>> {
        self.all
            .iter()
            .map(|member| Arc::clone(&member.instance))
            .collect()
    }

    /// There is one more process.
    pub(crate) fn enlist(&mut self, instance: Arc<Instance>) {
        self.all.push(Member {
            instance,
            started: false,
        });
    }

    /// A start has ended well.
    pub(crate) fn started(&mut self, id: InstanceId) {
        self.starting -= 1;
        self.starts += 1;
        self.failed_in_a_row = 0;
        match self
            .all
            .iter_mut()
            .find(|member| member.instance.presence.instance == id)
        {
            Some(member) => member.started = true,
            // Its process has ended in the meantime.
            None => self.live -= 1,
        }
    }

    /// A start has failed.
    pub(crate) fn start_failed(&mut self) {
        self.starting -= 1;
        self.live -= 1;
        self.starts += 1;
        self.failures += 1;
        self.failed_in_a_row += 1;
    }

    /// A process has ended; `unasked` when nobody had wanted that.
    pub(crate) fn gone(&mut self, instance: &Instance, lived: Duration, unasked: bool) {
        self.forget_free(instance);
        let id = instance.presence.instance;
        let Some(at) = self
            .all
            .iter()
            .position(|member| member.instance.presence.instance == id)
        else {
            return;
        };
        self.ended.add(lived, instance.cpu_seen());
        if self.all.swap_remove(at).started {
            self.live -= 1;
            self.failures += u64::from(unasked);
        }
    }

    /// Takes up to `count` places of an instance back that nobody has yet; says how many.
    pub(crate) fn take_back(&mut self, instance: &Instance, count: usize) -> usize {
        let id = instance.presence.instance;
        self.soon.retain(|other| *other != id);
        let mut left = count;
        self.idle.retain(|other| {
            let goes = left > 0 && other.presence.instance == id;
            left -= usize::from(goes);
            !goes
        });
        count - left
    }

    /// Takes up to `spare` instances out that have had nothing to do for `limit`.
    pub(crate) fn take_idle(
        &mut self,
        spare: usize,
        now: Time,
        limit: Duration,
    ) -> Vec<Arc<Instance>> {
        let mut taken: Vec<Arc<Instance>> = Vec::new();
        // The front has idled longest: taking and giving back happen at the other end.
        for instance in &self.idle {
            let idled = instance.idle_since();
            let is_known = taken.iter().any(|other| Arc::ptr_eq(other, instance));
            if taken.len() < spare && !is_known && idled.is_some_and(|at| at + limit <= now) {
                taken.push(Arc::clone(instance));
            }
        }
        taken.iter().for_each(|instance| self.forget_free(instance));
        taken
    }

    /// It is no longer free nor about to be.
    pub(crate) fn forget_free(&mut self, instance: &Instance) {
        let id = instance.presence.instance;
        self.idle.retain(|other| other.presence.instance != id);
        self.soon.retain(|other| *other != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(count: usize) -> (Places, Vec<oneshot::Receiver<Result<Grant, StartFailure>>>) {
        let mut places = Places::default();
        let mut receivers = Vec::new();
        for _ in 0..count {
            let (grant, receiver) = oneshot::channel();
            places.waiting.push_back(Waiter { grant });
            receivers.push(receiver);
        }
        (places, receivers)
    }

    #[test]
    fn one_start_per_waiter_within_the_limits() {
        let (mut places, receivers) = waiting(5);
        assert_eq!(places.wanted(10, 3, 1), 3);
        assert_eq!(places.wanted(10, 3, 1), 0);
        places.start_failed();
        assert_eq!(places.wanted(10, 3, 1), 1, "another start may begin");
        assert_eq!(places.wanted(3, 8, 1), 0, "three are live");
        drop(receivers);
        assert_eq!(places.wanted(10, 8, 1), 0, "nobody waits any more");
    }

    #[test]
    fn an_instance_that_is_about_to_ask_needs_no_start() {
        let (mut places, _receivers) = waiting(2);
        places
            .soon
            .push(model::Ids::seeded(1).instance(&model::Clock::virtual_at(model::Time(0))));
        assert_eq!(places.wanted(10, 8, 1), 1);
    }

    #[test]
    fn an_instance_that_serves_several_is_started_once_for_them() {
        let (mut places, _receivers) = waiting(5);
        assert_eq!(places.wanted(10, 8, 4), 2);
        assert_eq!(places.wanted(10, 8, 4), 0);
    }

    #[test]
    fn what_is_missing_counts_what_starts() {
        let mut places = Places::default();
        assert_eq!(places.missing(2), 2);
        assert_eq!(places.missing(2), 0);
        places.start_failed();
        assert_eq!((places.missing(2), places.failures), (1, 1));
    }
}
