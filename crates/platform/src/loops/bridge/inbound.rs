//! From a topic into the log. How far a partition was read is written in the transaction that appends the events of what was
//! read, so that whenever the server ends, no record is lost and none is taken twice.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use connect::{
    Item, Relayed,
    kafka::{self, Cluster, Fetched, Message, Partition, Place, Start},
};
use futures_util::future::try_join_all;
use model::{Error, Name};
use store::{crash::Moment, log::Intake};
use tokio::sync::watch;

use super::{
    super::{slept, stopped},
    Doing, waits,
};
use crate::{Platform, bridges::WayKey, events::relayed};

/// How often it is looked whether the topic has other partitions.
const LOOK: Duration = Duration::from_secs(60);
/// Events appended with one commit.
const EVENTS: usize = 200;
/// Bytes of records appended with one commit, unless one alone is larger.
const BYTES: usize = 2 << 20;

/// Reads one topic.
pub(super) struct Inbound<'a> {
    pub(super) platform: &'a Platform,
    pub(super) key: &'a WayKey,
    pub(super) doing: &'a Doing,
    /// The type of records that are no CloudEvents.
    pub(super) kind: Option<&'a str>,
    /// What it may publish.
    pub(super) types: &'a [String],
    /// Whether a topic that was never read is read from its beginning.
    pub(super) all: bool,
}

/// Records that are appended together, and where to read on after them.
struct Step {
    items: Vec<(i64, Message)>,
    next: i64,
    /// Offsets before them that are gone.
    missed: u64,
}

impl Inbound<'_> {
    /// Reads until told to stop; whatever is in the way is reported, and tried again.
    pub(super) async fn run(&self, mut stop: watch::Receiver<bool>) {
        let turn = self.platform.ways().turn(self.key);
        let mut failures = 0;
        while !*stop.borrow() {
            let held = turn.held.lock().await;
            let ended = tokio::select! {
                ended = self.work(&mut failures) => ended,
                () = turn.asked.notified() => Ok(()),
                () = stopped(&mut stop) => return,
            };
            drop(held);
            let Err(error) = ended else { continue };
            let wait = waits(self.platform, self.key, &error, failures);
            failures += 1;
            slept(self.platform.clock(), wait, &mut stop).await;
        }
    }

    /// Reads all partitions that there are; ends well when there are others.
    async fn work(&self, failures: &mut u32) -> Result<(), Error> {
        let (clock, topic) = (self.platform.clock(), &self.key.topic);
        let options = self.platform.cluster(&self.doing.kafka, self.doing.version);
        let cluster = Cluster::open(options.await?).await?;
        let partitions = cluster.partitions(topic).await?;
        let log = self.platform.store().log();
        let mut known = log.taken_in(&self.key.app, &self.key.bridge, topic).await?;
        self.begin(&partitions, &mut known).await?;
        let ways = self.platform.ways();
        ways.known(self.key, &known);
        *failures = 0;
        ways.runs(self.key, 0, clock.now());
        let readers = try_join_all(partitions.iter().map(|one| self.read(one, &known)));
        let looking = async {
            loop {
                clock.sleep(LOOK).await;
                if cluster.numbers(topic).await?.len() != partitions.len() {
                    return Ok(());
                }
            }
        };
        tokio::select! {
            ended = readers => ended.map(|_| ()),
            ended = looking => ended,
        }
    }

    async fn read(
        &self,
        partition: &Partition,
        known: &BTreeMap<i32, Intake>,
    ) -> Result<Infallible, Error> {
        let number = partition.number;
        let mut next = known.get(&number).map_or(0, |known| known.next);
        let mut missed = 0;
        loop {
            let fetched = match partition.fetch(next).await {
                Err(kafka::Error::OutOfRange) => {
                    let first = partition.start(Start::Earliest).await?;
                    let (bridge, topic) = (&self.key.bridge, &self.key.topic);
                    tracing::warn!(%bridge, topic, number, next, first, "records were gone before they were read, or the topic is another");
                    missed += u64::try_from(first - next).unwrap_or(0);
                    next = first;
                    continue;
                }
                other => other?,
            };
            let (end, read_to) = (fetched.end, fetched.next);
            for mut step in steps(fetched) {
                step.missed = std::mem::take(&mut missed);
                self.take_in(number, end, step).await?;
            }
            if read_to == next {
                self.nothing(number, end, next);
            }
            next = read_to;
        }
    }

    /// Where partitions are begun that never were, kept at once and together: what comes while the server is down is not from
    /// before. One that the topic was given since is read from its beginning.
    async fn begin(
        &self,
        partitions: &[Partition],
        known: &mut BTreeMap<i32, Intake>,
    ) -> Result<(), Error> {
        let start = match self.all || !known.is_empty() {
            true => Start::Earliest,
            false => Start::Latest,
        };
        let mut new = Vec::new();
        for one in partitions {
            if !known.contains_key(&one.number) {
                new.push(self.key.place(one.number, one.start(start).await?));
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let begun = new.iter().map(|(key, at)| (key.partition, at.clone()));
        known.extend(begun);
        Ok(self.platform.store().log().read_on(new).await?)
    }

    /// There was nothing: how far behind it is may be news all the same.
    fn nothing(&self, partition: i32, end: i64, next: i64) {
        let adds = Intake {
            next,
            ..Intake::default()
        };
        let ways = self.platform.ways();
        ways.took(self.key, partition, end, &adds);
        ways.runs(self.key, 0, self.platform.clock().now());
    }

    async fn take_in(&self, partition: i32, end: i64, step: Step) -> Result<(), Error> {
        let (platform, key) = (self.platform, self.key);
        let source = relayed::Source {
            app: &key.app,
            name: &key.bridge,
            types: self.types,
        };
        let (place, _) = key.place(partition, step.next);
        let count = step.items.len();
        let items = step.items.into_iter();
        let items = items.map(|(offset, message)| self.item(partition, offset, &message));
        let items = items.collect();
        let to = (step.next, step.missed);
        let new_trace = || platform.new_trace();
        let taking = relayed::take_in(platform.events(), source, items, place, to, new_trace);
        let adds = taking.await?;
        platform.store().pass(Moment::Relayed);
        let events = count - usize::try_from(adds.refused).unwrap_or(count).min(count);
        let ways = platform.ways();
        ways.took(key, partition, end, &adds);
        ways.runs(key, events, platform.clock().now());
        Ok(())
    }

    fn item(&self, partition: i32, offset: i64, message: &Message) -> Item {
        let place = Place {
            bridge: Name::as_str(&self.key.bridge),
            topic: &self.key.topic,
            partition,
            offset,
        };
        let (size, limit) = (size(message), self.platform.limits().event);
        let read = match size as u64 > limit.0 {
            true => Err(format!("the record has {size} bytes; {limit} is the most")),
            false => kafka::read(message, place, self.kind),
        };
        Item {
            place: offset,
            key: None,
            event: read.map(|read| Relayed {
                event: read.event,
                trace: read.trace,
                depth: read.depth,
            }),
        }
    }
}

fn size(message: &Message) -> usize {
    let headers = message.headers.iter();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    headers + message.value.as_ref().map_or(0, Vec::len)
}

/// What was fetched, in parts of one commit each; the last one reads on where the fetch says.
fn steps(fetched: Fetched) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut bytes = 0;
    for (offset, message) in fetched.messages {
        let size = size(&message);
        let last = steps.last_mut();
        match last.filter(|step| step.items.len() < EVENTS && bytes + size <= BYTES) {
            Some(step) => {
                bytes += size;
                step.items.push((offset, message));
                step.next = offset + 1;
            }
            None => {
                bytes = size;
                steps.push(Step {
                    items: vec![(offset, message)],
                    next: offset + 1,
                    missed: 0,
                });
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_is_taken_in_parts_that_leave_out_nothing() {
        let message = |bytes: usize| Message {
            value: Some(vec![0; bytes]),
            ..Message::default()
        };
        let mut messages: Vec<_> = (0..450).map(|n| (n * 2, message(10))).collect();
        messages.push((1_000, message(BYTES + 1)));
        messages.push((1_001, message(1)));
        let all = steps(Fetched {
            messages,
            next: 1_002,
            end: 1_002,
        });
        let shape: Vec<_> = all.iter().map(|one| (one.items.len(), one.next)).collect();
        assert_eq!(
            shape,
            [(200, 399), (200, 799), (50, 899), (1, 1_001), (1, 1_002)]
        );
        assert!(steps(Fetched::default()).is_empty());
    }
}
