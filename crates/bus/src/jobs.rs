//! Redrives and replays: chunk by chunk, at a rate, resumed after a kill. A chunk and how far the job is are one commit;
//! what it made wait is then handed to the subscription, as what failed and waits is.

use std::{collections::HashMap, sync::Arc, time::Duration};

use model::{EventFilter, Namespace, Position, Rate, SubscriptionKey, Time};
use pattern::Pattern;
use store::log::{
    Chunk, DeadLetterFilter, Job, JobSpec, Logged, Place, Redriven, Replayed, Step, SubscriptionId,
    Waiting,
};

use crate::{
    Bus, Error, bus::Shared, dead_letters::Gone, fill::PAUSE, lanes::Lane, matching, state::State,
    terms::Ordered,
};

/// Most dead letters in one chunk.
const CHUNK: u32 = 100;
/// Most events of the log, or dead letters, that one chunk looks at: whatever the rate, since what is not asked for
/// takes nothing of that.
const LOOK: u32 = 500;
/// By how much the clock may have been set back for a range of time to miss nothing.
const SET_BACK: Duration = Duration::from_secs(600);
/// Most deliveries of a subscription that wait, beyond which a job waits for it.
const WAITING: usize = 2000;
/// How long a job waits that can do nothing now.
const WAIT: Duration = Duration::from_millis(200);

/// What is to be replayed.
#[derive(Debug, Clone)]
pub struct Replay {
    /// To which subscription.
    pub key: SubscriptionKey,
    /// Events after this position.
    pub after: Position,
    /// Published from then on.
    pub since: Option<Time>,
    /// And before then.
    pub until: Option<Time>,
    /// Only these, of those that the subscription asks for.
    pub filter: Option<EventFilter>,
    /// How fast.
    pub rate: Option<Rate>,
}

/// The living range of a subscription, as a replay needs it.
struct Target {
    id: SubscriptionId,
    namespace: Namespace,
    pattern: Arc<Pattern>,
    order: Option<Ordered>,
    /// All up to here is settled, or has a row.
    settled: Position,
    waiting: usize,
}

impl Target {
    fn replayed(&self, logged: &Logged) -> Replayed {
        let lane = |order: &Ordered| order.lane(&logged.event, logged.position).0;
        Replayed {
            position: logged.position,
            published_at: logged.at,
            lane: self.order.as_ref().map(lane),
        }
    }
}

impl Bus {
    /// Delivers dead letters again that are there now, in the order in which their events were published; resumed after a
    /// kill. Returns its number at once.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn start_redrive(
        &self,
        filter: DeadLetterFilter,
        rate: Option<Rate>,
        by: &str,
    ) -> Result<u64, Error> {
        let shared = &self.0.shared;
        let through = shared.log.newest_dead_letter().await?;
        let spec = JobSpec::Redrive {
            filter,
            through,
            rate,
        };
        let id = shared.log.start_job(spec, by.to_owned()).await?;
        shared.jobs.notify_one();
        Ok(id)
    }

    /// Delivers events of the log to one subscription again, marked as a replay; resumed after a kill. Returns its number
    /// at once.
    ///
    /// # Errors
    /// [`Error::NoSuchSubscription`], [`Error::BadFilter`], those of the store.
    pub async fn start_replay(&self, replay: Replay, by: &str) -> Result<u64, Error> {
        let (target, _) = self.replayable(&replay)?;
        let shared = &self.0.shared;
        let gone_through = shared.gone(&target.namespace, &replay).await?;
        let (after, through) = shared.range_of(&target.namespace, &replay).await?;
        let spec = JobSpec::Replay {
            gone_through,
            namespace: target.namespace,
            key: replay.key,
            after,
            through,
            since: replay.since,
            until: replay.until,
            filter: replay.filter,
            rate: replay.rate,
        };
        let id = shared.log.start_job(spec, by.to_owned()).await?;
        shared.jobs.notify_one();
        Ok(id)
    }

    /// Up to which position the log has lost events of the range of a replay; `None`: none.
    ///
    /// # Errors
    /// As [`Bus::start_replay`].
    pub async fn gone_of_replay(&self, replay: &Replay) -> Result<Option<Position>, Error> {
        let (target, _) = self.replayable(replay)?;
        self.0.shared.gone(&target.namespace, replay).await
    }

    /// How many events a replay would deliver now.
    ///
    /// # Errors
    /// As [`Bus::start_replay`].
    pub async fn count_replay(&self, replay: &Replay) -> Result<u64, Error> {
        let (target, filter) = self.replayable(replay)?;
        let shared = &self.0.shared;
        let (mut after, through) = shared.range_of(&target.namespace, replay).await?;
        let mut count = 0;
        while after < through {
            let read = shared.log.range(&target.namespace, after, through, LOOK);
            let events = read.await?;
            let Some(last) = events.last() else { break };
            after = last.position;
            let wanted = |logged: &&Logged| {
                within(logged, replay.since, replay.until)
                    && matches(&target.pattern, filter.as_deref(), logged)
            };
            count += events.iter().filter(wanted).count() as u64;
        }
        Ok(count)
    }

    fn replayable(&self, replay: &Replay) -> Result<(Target, Option<Arc<Pattern>>), Error> {
        let target = self.0.shared.replay_target(&replay.key);
        let target = target.ok_or_else(|| Error::NoSuchSubscription(replay.key.clone()))?;
        let filter = replay.filter.as_ref();
        let filter = filter.map(|filter| matching::compile(&replay.key, filter));
        Ok((target, filter.transpose()?))
    }

    /// Redrives and replays, newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<Job>, Error> {
        Ok(self.0.shared.log.jobs(false, limit).await?)
    }

    /// One redrive or replay.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn job(&self, id: u64) -> Result<Option<Job>, Error> {
        Ok(self.0.shared.log.job(id).await?)
    }

    /// Ends a redrive or a replay where it is; whether it ran. What it made wait is delivered all the same.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn cancel_job(&self, id: u64, by: &str) -> Result<bool, Error> {
        let cancelled = self.0.shared.log.cancel_job(id, by.to_owned()).await?;
        self.0.shared.ended.notify_waiters();
        Ok(cancelled)
    }

    /// Waits until a redrive or a replay has ended.
    ///
    /// # Errors
    /// [`Error::NoSuchJob`], those of the store.
    pub async fn job_ended(&self, id: u64) -> Result<Job, Error> {
        let shared = &self.0.shared;
        loop {
            let ended = shared.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let job = shared.log.job(id).await?.ok_or(Error::NoSuchJob(id))?;
            if job.ended_at.is_some() {
                return Ok(job);
            }
            ended.await;
        }
    }
}

/// Runs until it is aborted.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut due: HashMap<u64, Time> = HashMap::new();
    loop {
        let told = shared.jobs.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        let jobs = match shared.log.jobs(true, 1000).await {
            Ok(jobs) => jobs,
            Err(store::Error::Closed) => return,
            Err(error) => {
                tracing::error!(%error, "redrives and replays cannot be read; trying again");
                shared.clock.sleep(PAUSE).await;
                continue;
            }
        };
        due.retain(|id, _| jobs.iter().any(|job| job.id == *id));
        let now = shared.clock.now();
        let mut next = None;
        for job in jobs.iter().rev() {
            let at = due.get(&job.id).copied().unwrap_or(now);
            let at = if at <= now {
                let wait = shared.step(job).await;
                shared.ended.notify_waiters();
                shared.clock.now() + wait
            } else {
                at
            };
            due.insert(job.id, at);
            next = Some(next.map_or(at, |next: Time| next.min(at)));
        }
        match next {
            None => told.await,
            Some(next) => tokio::select! {
                () = told => {}
                () = shared.clock.sleep_until(next) => {}
            },
        }
    }
}

impl Shared {
    /// One chunk of a job, and how long until the next.
    async fn step(self: &Arc<Self>, job: &Job) -> Duration {
        let step = match &job.spec {
            JobSpec::Redrive {
                filter,
                through,
                rate,
            } => self.redrive_step(job, filter, *through, *rate).await,
            JobSpec::Replay { .. } => self.replay_step(job).await,
        };
        match step {
            Ok(wait) => wait,
            Err(Error::Store(store::Error::Conflict(_))) => Duration::ZERO,
            Err(error) => {
                tracing::error!(%error, job = job.id, "a redrive or replay waits and is tried again");
                PAUSE
            }
        }
    }

    async fn redrive_step(
        self: &Arc<Self>,
        job: &Job,
        filter: &DeadLetterFilter,
        through: i64,
        rate: Option<Rate>,
    ) -> Result<Duration, Error> {
        if self.is_crowded(filter) {
            return Ok(WAIT);
        }
        let most = rate.map_or(CHUNK, |rate| rate.burst().min(CHUNK));
        let found = self
            .log
            .letters_to_redrive(filter.clone(), through, job.place, (LOOK, most));
        let found = found.await?;
        let count = found.ids.len();
        let step = Step {
            job: job.id,
            from: job.place,
            to: found.to,
            chunk: Chunk::Letters(found.ids),
            last: found.last,
        };
        let before = self.holds_changed();
        let redriven = self.log.step_job(step).await?;
        self.redriven(before, redriven).await;
        Ok(pause_after(rate, count))
    }

    /// Whether so much of what a redrive concerns waits already that it had better wait, too.
    fn is_crowded(&self, filter: &DeadLetterFilter) -> bool {
        let state = self.state.lock();
        let concerns = |key: &SubscriptionKey| {
            filter.app.as_ref().is_none_or(|app| *app == key.app)
                && filter.workload.as_ref().is_none_or(|w| *w == key.workload)
                && filter.name.as_ref().is_none_or(|name| *name == key.name)
        };
        let mut ranges = state.ranges.values();
        ranges.any(|range| concerns(&range.key) && range.retrying() > WAITING)
    }

    async fn replay_step(self: &Arc<Self>, job: &Job) -> Result<Duration, Error> {
        let JobSpec::Replay {
            key,
            through,
            since,
            until,
            filter,
            rate,
            ..
        } = &job.spec
        else {
            return Ok(Duration::ZERO);
        };
        let Some(target) = self.replay_target(key) else {
            tracing::warn!(job = job.id, %key, "a replay ends: its subscription is no more");
            self.log.cancel_job(job.id, "tangelo".to_owned()).await?;
            return Ok(Duration::ZERO);
        };
        // What was not delivered yet is not delivered again.
        let reach = target.settled.min(*through);
        let after = job.place.after;
        if target.waiting > WAITING || (reach <= after && after < *through) {
            return Ok(WAIT);
        }
        let filter = filter.as_ref().map(|filter| matching::compile(key, filter));
        let filter = filter.transpose()?;
        let wanted = |logged: &Logged| {
            within(logged, *since, *until) && matches(&target.pattern, filter.as_deref(), logged)
        };
        let most = rate.map_or(LOOK, |rate| rate.burst().min(LOOK));
        let (chunk, to) = self.look_for(&target, (after, reach), most, wanted).await?;
        let count = chunk.len();
        let step = Step {
            job: job.id,
            from: job.place,
            to: Place {
                group: 0,
                after: to,
            },
            chunk: Chunk::Events(target.id, chunk),
            last: to >= *through,
        };
        let before = self.holds_changed();
        let redriven = self.log.step_job(step).await?;
        self.redriven(before, redriven).await;
        Ok(pause_after(*rate, count))
    }

    /// The next events that are wanted, at most `most`, among at most [`LOOK`]; and up to where it was looked. Where most
    /// are wanted, few more are read than are taken.
    async fn look_for(
        &self,
        target: &Target,
        (after, reach): (Position, Position),
        most: u32,
        wanted: impl Fn(&Logged) -> bool,
    ) -> Result<(Vec<Replayed>, Position), Error> {
        let (mut chunk, mut to) = (Vec::new(), after);
        let (mut look, mut left) = (most, LOOK);
        while to < reach && left > 0 {
            let read = self.log.range(&target.namespace, to, reach, look.min(left));
            let events = read.await?;
            if events.is_empty() {
                to = reach;
            }
            for logged in events {
                to = logged.position;
                left -= 1;
                if wanted(&logged) {
                    chunk.push(target.replayed(&logged));
                }
                if chunk.len() == most as usize {
                    return Ok((chunk, to));
                }
            }
            look = look.saturating_mul(2);
        }
        Ok((chunk, to))
    }

    /// Behind which position the events of a replay are, and up to which, as far as its times say and the log has them
    /// now: nothing else need be looked at.
    async fn range_of(
        &self,
        namespace: &Namespace,
        replay: &Replay,
    ) -> Result<(Position, Position), Error> {
        let (mut after, mut through) = (replay.after, self.state.lock().scanned(namespace));
        if let Some(since) = replay.since {
            let seek = self.log.seek(namespace, after, through, since - SET_BACK);
            after = seek.await?;
        }
        if let Some(until) = replay.until {
            let seek = self.log.seek(namespace, after, through, until + SET_BACK);
            through = seek.await?;
        }
        Ok((after, through))
    }

    /// Up to which position the log has lost events of a range.
    async fn gone(
        &self,
        namespace: &Namespace,
        replay: &Replay,
    ) -> Result<Option<Position>, Error> {
        let extent = self.log.extent(namespace).await?;
        let gone = extent.map(|extent| (extent.tail, extent.gone_at));
        let in_range = |(through, at): &(Position, Time)| {
            *through > replay.after && replay.since.is_none_or(|since| since <= *at)
        };
        Ok(gone.filter(in_range).map(|(through, _)| through))
    }

    fn replay_target(&self, key: &SubscriptionKey) -> Option<Target> {
        let state = self.state.lock();
        let consumer = state.consumers.get(key)?;
        let mut ranges = consumer.ranges.iter().filter_map(|id| state.ranges.get(id));
        let range = ranges.rfind(|range| range.end.is_none())?;
        let scanned = state.scanned(&range.namespace);
        Some(Target {
            id: range.id,
            namespace: range.namespace.clone(),
            pattern: range.pattern.clone()?,
            order: range.order.clone(),
            settled: range.settled(scanned),
            waiting: range.retrying(),
        })
    }

    /// What a commit made wait, as far as memory goes; `before` is what [`Shared::holds_changed`] said before it.
    pub(crate) async fn redriven(&self, before: u64, redriven: Vec<Redriven>) {
        let mut rows = Vec::with_capacity(redriven.len());
        let mut gone = Vec::new();
        for row in redriven {
            let lane = match row.lane {
                Some(lane) => Some(Lane(lane)),
                None => self.lane_of_row(&row).await,
            };
            let state = self.state.lock();
            if let Some(range) = state.ranges.get(&row.subscription)
                && row.dead
            {
                gone.push(Gone {
                    namespace: range.namespace.clone(),
                    key: range.key.clone(),
                    left: row.left,
                });
            }
            rows.push((row, lane));
        }
        let now = self.clock.now();
        let put_back = |state: &mut State| {
            let mut wake = false;
            for (row, lane) in rows {
                let (due, position) = (row.due, row.position);
                wake |= state.put_back(row.subscription, Waiting { due, position }, lane, now);
            }
            wake
        };
        // At once with what they held: nothing of their keys overtakes them.
        let wake = self.no_longer_dead(before, gone, put_back).await;
        self.wake(wake);
    }

    /// The key of a row that has none noted, where its subscription has order.
    async fn lane_of_row(&self, redriven: &Redriven) -> Option<Lane> {
        let order = {
            let state = self.state.lock();
            state.ranges.get(&redriven.subscription)?.order.clone()?
        };
        let item = self
            .log
            .retry_item(redriven.subscription, redriven.position)
            .await;
        let item = item.ok().flatten()?;
        Some(order.lane(&item.logged.event, redriven.position))
    }
}

fn within(logged: &Logged, since: Option<Time>, until: Option<Time>) -> bool {
    since.is_none_or(|since| logged.at >= since) && until.is_none_or(|until| logged.at < until)
}

fn matches(pattern: &Pattern, filter: Option<&Pattern>, logged: &Logged) -> bool {
    pattern.matches_event(&logged.event)
        && filter.is_none_or(|filter| filter.matches_event(&logged.event))
}

fn pause_after(rate: Option<Rate>, count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    rate.map_or(Duration::ZERO, |rate| rate.interval().saturating_mul(count))
}
