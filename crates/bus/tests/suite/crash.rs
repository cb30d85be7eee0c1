//! The process killed with SIGKILL at random moments while it publishes and settles, and a ledger kept outside of it:
//! what was acknowledged is delivered, what was settled is not delivered again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use bus::{Bus, Settled};
use model::{Clock, Ids, Limits, RetryPolicy};
use store::{Options, Store};

use crate::fixture::{Fixture, all, cause, event, fault, space};

/// Names the data folder to the process that is to be killed, and from which number its events count.
const CHILD: &str = "TANGELO_BUS_CRASH_CHILD";
/// How often to kill; more in a soak.
const KILLS: &str = "TANGELO_BUS_CRASH_KILLS";
const FEW: u32 = 6;
/// Publishers at the same time in the child.
const PUBLISHERS: u32 = 8;

/// Deliveries that the child keeps until it is killed.
const HELD: usize = 20;

/// What the parent knows from the child's acknowledgements.
#[derive(Default)]
struct Ledger {
    published: BTreeSet<u32>,
    settled: BTreeSet<u32>,
    /// About to be settled when the child died, perhaps: the commit may have been made and its answer lost.
    perhaps: BTreeSet<u32>,
    delivered_after_settled: Vec<u32>,
    attempts: BTreeMap<u32, u32>,
    keys: BTreeMap<u32, String>,
    changed_keys: Vec<u32>,
}

impl Ledger {
    /// `A id` acknowledged, `D id key` delivered, `T id` about to be settled, `S id` settled; anything else is the test harness talking.
    fn read(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (kind, id) = (words.next(), words.next().and_then(|id| id.parse().ok()));
        match (kind, id) {
            (Some("A"), Some(id)) => {
                self.published.insert(id);
            }
            (Some("S"), Some(id)) => {
                self.settled.insert(id);
            }
            (Some("T"), Some(id)) => {
                self.perhaps.insert(id);
            }
            (Some("D"), Some(id)) => self.delivered(id, words.next().unwrap_or_default()),
            _ => {}
        }
    }

    fn delivered(&mut self, id: u32, key: &str) {
        if self.settled.contains(&id) {
            self.delivered_after_settled.push(id);
        }
        *self.attempts.entry(id).or_default() += 1;
        let known = self.keys.entry(id).or_insert_with(|| key.to_owned());
        if known != key {
            self.changed_keys.push(id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_moments_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let kills = std::env::var_os(KILLS).and_then(|n| n.to_str().and_then(|n| n.parse().ok()));
    let (mut ledger, mut random) = (Ledger::default(), 0x1234_5678_9abc_def1_u64);
    for round in 0..kills.unwrap_or(FEW) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        run_and_kill(dir.path(), round, 50 + random % 1500, &mut ledger);
    }
    let fixture = Fixture::on(dir, Clock::system()).await;
    while !is_drained(&fixture.bus) {
        let next = tokio::time::timeout(std::time::Duration::from_secs(30), fixture.next());
        let Ok(delivery) = next.await else { break };
        let id = delivery.event.id.parse().expect("is a number");
        ledger.delivered(id, &delivery.idempotency_key);
        fixture
            .bus
            .settle(delivery, Settled::Done)
            .await
            .expect("settles");
        ledger.settled.insert(id);
    }
    let settled: BTreeSet<_> = ledger.settled.union(&ledger.perhaps).copied().collect();
    let lost: Vec<_> = ledger.published.difference(&settled).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(ledger.published.len() > 20, "it did some work");
    assert_eq!(
        ledger.delivered_after_settled, [0; 0],
        "settled and delivered again"
    );
    assert_eq!(
        ledger.changed_keys, [0; 0],
        "another idempotency key on another attempt"
    );
    assert!(
        ledger.attempts.values().any(|attempts| *attempts > 1),
        "nothing was retried"
    );
}

fn is_drained(bus: &Bus) -> bool {
    let idle =
        |stats: &bus::SubscriptionStats| stats.backlog + stats.in_flight + stats.retrying == 0;
    bus.stats().iter().all(idle)
}

fn run_and_kill(dir: &Path, round: u32, lines: u64, ledger: &mut Ledger) {
    let mut child = start(dir, round);
    let output = child.stdout.take().expect("is piped");
    let mut read = 0;
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        ledger.read(&line);
        read += 1;
        if read == lines {
            // What is in the pipe was acknowledged and is read to its end.
            child.kill().expect("runs");
        }
    }
    child.wait().expect("ended");
    assert!(
        read >= lines,
        "the child ended by itself after {read} lines"
    );
}

fn start(dir: &Path, round: u32) -> Child {
    let this = std::env::current_exe().expect("knows itself");
    Command::new(this)
        .args([
            "crash::the_victim_does_what_the_ledger_expects",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, format!("{round}:{}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

/// As a child of the test above: publishes and settles until it is killed. By itself: does so for a while, and nothing
/// is left over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_victim_does_what_the_ledger_expects() {
    if let Some(task) = std::env::var_os(CHILD) {
        let task = task.to_str().expect("is text").to_owned();
        let (round, dir) = task.split_once(':').expect("has both");
        work(Path::new(dir), round.parse().expect("is a number"), None).await;
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let bus = work(dir.path(), 0, Some(10)).await;
    let left = bus.stats();
    assert_eq!(
        (
            left[0].backlog,
            left[0].in_flight,
            left[0].retrying,
            left[0].dead
        ),
        (0, 0, 0, 0)
    );
}

/// Publishes from several tasks (each `count` events, or for ever) and settles what comes.
async fn work(dir: &Path, round: u32, count: Option<u32>) -> Bus {
    let clock = Clock::system();
    let store = Store::open(Options::new(dir, clock.clone())).expect("opens");
    let bus = Bus::open(store, clock, Ids::system(), Limits::default())
        .await
        .expect("opens");
    subscribe(&bus).await;
    say("");
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let bus = bus.clone();
        publishers.spawn(async move {
            let first = round * 1_000_000 + publisher * 100_000;
            for id in first..first + count.unwrap_or(100_000) {
                let receipt = bus.publish(&space(), vec![(event("t", id), cause())]).await;
                receipt
                    .into_iter()
                    .for_each(|r| drop(r.expect("publishes")));
                say(&format!("A {id}"));
            }
        });
    }
    let mut settling = tokio::task::JoinSet::new();
    // Never settled: they must come again after the kill.
    let mut held = Vec::new();
    let mut left = count.map(|count| count * PUBLISHERS);
    while left != Some(0) {
        let key = bus.ready().await;
        let Some(delivery) = bus.take(&key).await.pop() else {
            continue;
        };
        let id = delivery.event.id.clone();
        say(&format!("D {id} {}", delivery.idempotency_key));
        if count.is_none() && id.ends_with('3') && held.len() < HELD {
            held.push(delivery);
            continue;
        }
        let fails = delivery.attempt == 1 && id.ends_with('7');
        if !fails {
            left = left.map(|left| left - 1);
        }
        let bus = bus.clone();
        settling.spawn(async move {
            if !fails {
                say(&format!("T {id}"));
            }
            let how = if fails {
                Settled::Retry(fault())
            } else {
                Settled::Done
            };
            bus.settle(delivery, how).await.expect("settles");
            if !fails {
                say(&format!("S {id}"));
            }
        });
    }
    while settling.join_next().await.is_some() {}
    bus
}

async fn subscribe(bus: &Bus) {
    let retry = RetryPolicy {
        attempts: 1000,
        backoff: std::time::Duration::from_millis(5),
        max_backoff: std::time::Duration::from_millis(50),
        ..RetryPolicy::default()
    };
    let subscription = model::Subscription {
        name: model::Name::literal("s"),
        filter: model::EventFilter(all()),
        retry,
        concurrency: Some(64),
        rate: None,
        order: None,
        batch: None,
        input: None,
        projection: None,
        pulled: false,
        serial: false,
    };
    let key = "shop/w/s".parse().expect("is a key");
    let app = model::Name::literal("shop");
    bus.set_subscriptions(&space(), &app, vec![(key, subscription)])
        .await
        .expect("sets");
}

/// One line, whole and at once: a line that is in the pipe was acknowledged.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())
        .and_then(|()| out.flush())
        .ok();
}
