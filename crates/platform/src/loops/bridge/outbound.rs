//! From a subscription to a topic. A delivery is settled when every replica in sync has its record, so that whenever the server
//! or a broker ends, records are written again, with the same `ce_id`, and none is lost. Nothing more is taken before all that
//! was is settled: the order of the log is that of each key's partition.

use std::{collections::BTreeMap, time::Duration};

use bus::{Delivery, Settled};
use connect::kafka::{self, Cluster, Message, Partition, Told};
use futures_util::future::join_all;
use model::{Error, SubscriptionKey, Time, code, outside::KafkaMode};
use pattern::Path;
use serde_json::Value;
use store::crash::Moment;
use tokio::sync::watch;

use super::{
    super::{slept, stopped},
    Doing, waits,
};
use crate::{Platform, bridges::WayKey, loops};

/// Bytes of one request, unless one record alone is larger: brokers take about 1 MiB unless told otherwise.
const BYTES: usize = 512 << 10;
/// How long there is waited for events before it is looked whether to stop.
const WAIT: Duration = Duration::from_secs(1);
/// How often it is looked whether the topic has other partitions.
const LOOK: Duration = Duration::from_secs(60);
/// How long what is being written may go on when it is to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Writes one topic.
pub(super) struct Outbound<'a> {
    platform: &'a Platform,
    way: &'a WayKey,
    doing: &'a Doing,
    /// Where the key of a record is in its event; the first of these.
    keys: Vec<Path>,
    mode: KafkaMode,
    subscription: SubscriptionKey,
    /// Taken, and not settled yet; in the order of the log.
    held: Vec<Held>,
}

struct Held {
    delivery: Delivery,
    message: Message,
}

impl<'a> Outbound<'a> {
    pub(super) fn new(
        platform: &'a Platform,
        way: &'a WayKey,
        doing: &'a Doing,
        key: Option<&str>,
        mode: KafkaMode,
    ) -> Self {
        let keys = key.map_or_else(|| vec!["$.partitionkey", "$.subject"], |key| vec![key]);
        let name = way.subscription.clone();
        Self {
            platform,
            way,
            doing,
            keys: keys
                .iter()
                .filter_map(|key| Path::parse(key).ok())
                .collect(),
            mode,
            subscription: SubscriptionKey {
                app: way.app.clone(),
                workload: way.bridge.clone(),
                name: name.unwrap_or_else(|| way.bridge.clone()),
            },
            held: Vec::new(),
        }
    }

    /// Writes until told to stop; whatever is in the way is reported, and tried again.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (clock, mut failures) = (self.platform.clock().clone(), 0);
        while !*stop.borrow() {
            let mut told = stop.clone();
            let no_longer = async {
                stopped(&mut told).await;
                clock.sleep(GRACE).await;
            };
            let error = tokio::select! {
                ended = self.work(&stop, &mut failures) => match ended {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                () = no_longer => break,
            };
            let wait = waits(self.platform, self.way, &error, failures);
            failures += 1;
            self.give_up_what_is_too_old(&error).await;
            let bus = self.platform.bus();
            bus.park(&self.subscription, wait, &error.to_string());
            slept(&clock, wait, &mut stop).await;
        }
        // Whoever comes next writes it: it was no attempt.
        let error = || Error::new(code::SHUTTING_DOWN, "the bridge ended");
        let held = std::mem::take(&mut self.held).into_iter();
        let later = held.map(|one| (one.delivery, Settled::Later(error())));
        self.settle(later.collect()).await;
    }

    /// Writes all that there is and comes; ends well when it is to stop, or the topic has other partitions.
    async fn work(
        &mut self,
        stop: &watch::Receiver<bool>,
        failures: &mut u32,
    ) -> Result<(), Error> {
        let (platform, topic) = (self.platform, &self.way.topic);
        let clock = platform.clock();
        let options = platform.cluster(&self.doing.kafka, self.doing.version);
        let cluster = Cluster::open(options.await?).await?;
        let partitions = cluster.partitions(topic).await?;
        let mut looked = clock.now();
        platform.ways().runs(self.way, 0, looked);
        while !*stop.borrow() {
            let now = clock.now();
            if now.since(looked) > LOOK {
                if cluster.numbers(topic).await?.len() != partitions.len() {
                    break;
                }
                looked = now;
            }
            self.take(now + WAIT).await?;
            if !self.held.is_empty() {
                self.write(&partitions).await?;
            }
            *failures = 0;
        }
        Ok(())
    }

    /// Takes what there is, and waits for it until then; nothing when there is still something held.
    async fn take(&mut self, until: Time) -> Result<(), Error> {
        if self.held.is_empty() {
            let taken = self.platform.bus().pull(&self.subscription, 1, until);
            let taken = taken.await?.into_iter();
            self.held = taken.map(|delivery| self.record(delivery)).collect();
        }
        Ok(())
    }

    fn record(&self, delivery: Delivery) -> Held {
        let span = loops::dwell(self.platform, &self.way.app, &delivery);
        let event = &delivery.event;
        let mut found =
            self.keys
                .iter()
                .filter_map(|path| match path.find_in_event(event).as_deref() {
                    None | Some(Value::Null) => None,
                    Some(Value::String(text)) => Some(text.clone()),
                    Some(other) => Some(other.to_string()),
                });
        let told = Told {
            key: found.next(),
            traceparent: delivery.cause.trace.traceparent(span),
            depth: delivery.cause.depth,
        };
        let message = kafka::write(event, self.mode, told);
        Held { delivery, message }
    }

    /// Writes what is held, to all partitions at once; what was written is settled, and held no longer.
    async fn write(&mut self, partitions: &[Partition]) -> Result<(), Error> {
        let mut of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, one) in self.held.iter().enumerate() {
            of.entry(partition(one, partitions.len()))
                .or_default()
                .push(at);
        }
        let held = &self.held;
        let writing = of.into_iter().map(|(number, which)| async move {
            let messages = which.iter().map(|at| &held[*at].message).collect();
            let (fates, failed) = append(&partitions[number], messages).await;
            (which.into_iter().zip(fates).collect::<Vec<_>>(), failed)
        });
        let mut fates: BTreeMap<usize, Settled> = BTreeMap::new();
        let mut failed = None;
        for (some, error) in join_all(writing).await {
            fates.extend(some);
            failed = failed.or(error);
        }
        self.platform.store().pass(Moment::Delivered);
        let (mut settled, mut written) = (Vec::new(), 0);
        for (at, one) in std::mem::take(&mut self.held).into_iter().enumerate() {
            match fates.remove(&at) {
                Some(fate) => {
                    written += usize::from(matches!(fate, Settled::Done));
                    settled.push((one.delivery, fate));
                }
                None => self.held.push(one),
            }
        }
        self.settle(settled).await;
        match failed {
            Some(error) => Err(error.into()),
            None => {
                let now = self.platform.clock().now();
                self.platform.ways().runs(self.way, written, now);
                Ok(())
            }
        }
    }

    /// What has waited longer than the manifest says it may is a dead letter, for the reason that is in the way; what was not
    /// taken yet is looked at, too.
    async fn give_up_what_is_too_old(&mut self, error: &Error) {
        let Some(most) = self.doing.age else { return };
        loop {
            let now = self.platform.clock().now();
            if self.take(now).await.is_err() {
                return;
            }
            let (old, rest) = std::mem::take(&mut self.held)
                .into_iter()
                .partition::<Vec<_>, _>(|one| now.since(one.delivery.published_at) > most);
            self.held = rest;
            if old.is_empty() {
                return;
            }
            let dead = old.into_iter();
            let dead = dead.map(|one| (one.delivery, Settled::Dead(error.clone())));
            self.settle(dead.collect()).await;
            if !self.held.is_empty() {
                return;
            }
        }
    }

    /// All with one commit.
    async fn settle(&self, some: Vec<(Delivery, Settled)>) {
        let bus = self.platform.bus();
        let settling = some
            .into_iter()
            .map(|(delivery, how)| bus.settle(delivery, how));
        for ended in join_all(settling).await {
            if let Err(error) = ended {
                tracing::error!(%error, "what went over a bridge could not be settled; it goes again");
            }
        }
    }
}

/// Where in the list of partitions: by the key as Kafka's own clients do it, without one in turns.
fn partition(one: &Held, count: usize) -> usize {
    match &one.message.key {
        Some(key) => kafka::partition_of(key, count),
        None => usize::try_from(one.delivery.position.0 % count.max(1) as u64).unwrap_or(0),
    }
}

/// Appends records in order, as many as fit at once: what became of the first ones, and why the others were not appended.
async fn append(
    partition: &Partition,
    messages: Vec<&Message>,
) -> (Vec<Settled>, Option<kafka::Error>) {
    let (mut fates, mut alone) = (Vec::new(), false);
    while fates.len() < messages.len() {
        let rest = &messages[fates.len()..];
        let count = if alone { 1 } else { fitting(rest) };
        let some = rest[..count].iter().map(|one| (*one).clone()).collect();
        match partition.produce(some).await {
            Ok(()) => fates.extend(std::iter::repeat_n(Settled::Done, count)),
            Err(error @ kafka::Error::TooLarge) if count == 1 => {
                fates.push(Settled::Dead(error.into()));
            }
            // One at a time, to find out which.
            Err(kafka::Error::TooLarge) => alone = true,
            Err(error) => return (fates, Some(error)),
        }
    }
    (fates, None)
}

/// How many of the first fit into one request; one at least.
fn fitting(some: &[&Message]) -> usize {
    let mut bytes = 0;
    let fit = some.iter().take_while(|message| {
        let headers = message.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + value.len());
        let value = message.value.as_ref().map_or(0, Vec::len);
        bytes += headers.sum::<usize>() + value + message.key.as_ref().map_or(0, Vec::len);
        bytes <= BYTES
    });
    fit.count().max(1)
}
