//! Bridges to other people's brokers: how each way of each is doing, and where it reads on. The loops are in `loops::bridge`.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use connect::kafka::{Cluster, Login, Options, Start, Trust};
use model::{AppName, Error, Kafka, Name, Run, SubscriptionKey, Time, VersionId, code};
use parking_lot::Mutex;
use runtime::webhook::certificates;
use serde::Serialize;
use store::log::{Intake, IntakeKey};
use tokio::{sync::Notify, task::spawn_blocking};

use crate::Platform;

/// How often a reader is asked to let go.
const ASK: Duration = Duration::from_millis(20);

/// One way of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct WayKey {
    /// The app.
    pub app: AppName,
    /// The bridge's name in it.
    pub bridge: Name,
    /// Which way.
    pub way: Way,
    /// The topic there.
    pub topic: String,
    /// The subscription here, of what goes out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Name>,
}

impl WayKey {
    /// A partition of its topic, and where that is read on, as it is stored.
    pub(crate) fn place(&self, partition: i32, next: i64) -> (IntakeKey, Intake) {
        let key = IntakeKey {
            app: self.app.clone(),
            bridge: self.bridge.clone(),
            topic: self.topic.clone(),
            partition,
        };
        let at = Intake {
            next,
            ..Intake::default()
        };
        (key, at)
    }
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From there to here.
    In,
    /// From here to there.
    Out,
}

impl Way {
    /// `in` or `out`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What a way does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WayState {
    /// It has not reached the cluster yet.
    Starting,
    /// It moves what comes.
    Running,
    /// It cannot, and tries again; `why` says what is in the way.
    Waiting,
}

/// A partition that is read.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: i32,
    /// The offset of the record that is read next.
    pub next: i64,
    /// The offset that its next record will have, as last heard.
    pub end: i64,
    /// Records that were not read yet.
    pub lag: u64,
}

/// How a way is doing.
#[derive(Debug, Clone, Serialize)]
pub struct WayStatus {
    /// Which.
    #[serde(flatten)]
    pub key: WayKey,
    /// Whether it works.
    pub state: WayState,
    /// Since when.
    pub since: Time,
    /// What is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Error>,
    /// The last thing that was in the way, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<(Time, Error)>,
    /// Records that became events, or events that became records, since the server started.
    pub moved: u64,
    /// Records that are no events, ever: they were passed over, and stay where they are.
    pub refused: u64,
    /// Why the last of them was none, and where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refused: Option<String>,
    /// Offsets that were gone before they were read, ever.
    pub missed: u64,
    /// Records that were not read yet, or events that were not written yet.
    pub lag: u64,
    /// The partitions of a topic that is read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionStatus>,
}

/// How all are doing.
#[derive(Default)]
pub(crate) struct Bridges {
    ways: Mutex<BTreeMap<WayKey, WayStatus>>,
    turns: Mutex<BTreeMap<WayKey, Arc<Turn>>>,
}

/// Who may say how far a topic was read: its reader, unless told to let go.
#[derive(Default)]
pub(crate) struct Turn {
    /// Held by whoever says it.
    pub(crate) held: tokio::sync::Mutex<()>,
    /// The reader is to let go, and to begin anew from what is stored.
    pub(crate) asked: Notify,
}

impl Bridges {
    pub(crate) fn begin(&self, key: &WayKey, now: Time) {
        let status = WayStatus {
            key: key.clone(),
            state: WayState::Starting,
            since: now,
            why: None,
            last_error: None,
            moved: 0,
            refused: 0,
            last_refused: None,
            missed: 0,
            lag: 0,
            partitions: Vec::new(),
        };
        self.ways.lock().insert(key.clone(), status);
    }

    pub(crate) fn end(&self, key: &WayKey) {
        self.ways.lock().remove(key);
        self.turns.lock().remove(key);
    }

    /// It works, and moved so many.
    pub(crate) fn runs(&self, key: &WayKey, count: usize, now: Time) {
        self.update(key, |status| {
            status.moved += count as u64;
            if status.state != WayState::Running {
                (status.state, status.since, status.why) = (WayState::Running, now, None);
            }
        });
    }

    /// What is stored of all its partitions.
    pub(crate) fn known(&self, key: &WayKey, stored: &BTreeMap<i32, Intake>) {
        self.update(key, |status| {
            status.refused = stored.values().map(|one| one.refused).sum();
            status.missed = stored.values().map(|one| one.missed).sum();
            let told = stored.values().find_map(|one| one.last_refused.clone());
            status.last_refused = status.last_refused.take().or(told);
            status.partitions.clear();
        });
    }

    /// What was stored of a partition now.
    pub(crate) fn took(&self, key: &WayKey, partition: i32, end: i64, adds: &Intake) {
        self.update(key, |status| {
            status.refused += adds.refused;
            status.missed += adds.missed;
            if adds.last_refused.is_some() {
                status.last_refused.clone_from(&adds.last_refused);
            }
            let all = &mut status.partitions;
            let at = match all.binary_search_by_key(&partition, |one| one.partition) {
                Ok(at) => at,
                Err(at) => {
                    all.insert(at, PartitionStatus::default());
                    at
                }
            };
            all[at] = PartitionStatus {
                partition,
                next: adds.next,
                end,
                lag: u64::try_from(end - adds.next).unwrap_or(0),
            };
            status.lag = all.iter().map(|one| one.lag).sum();
        });
    }

    /// Something is in the way. Whether that is news.
    pub(crate) fn waits(&self, key: &WayKey, error: &Error, now: Time) -> bool {
        let mut news = false;
        self.update(key, |status| {
            news = status.why.as_ref().map(|why| why.code) != Some(error.code);
            if status.state != WayState::Waiting {
                (status.state, status.since) = (WayState::Waiting, now);
            }
            status.why = Some(error.clone());
            status.last_error = Some((now, error.clone()));
        });
        news
    }

    pub(crate) fn turn(&self, key: &WayKey) -> Arc<Turn> {
        Arc::clone(self.turns.lock().entry(key.clone()).or_default())
    }

    fn update(&self, key: &WayKey, change: impl FnOnce(&mut WayStatus)) {
        if let Some(status) = self.ways.lock().get_mut(key) {
            change(status);
        }
    }
}

/// Where a topic is to be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// All that is there.
    Earliest,
    /// What comes from now on.
    Latest,
    /// This offset.
    Offset(i64),
}

impl Platform {
    /// Every way of every bridge, and what is in it.
    #[must_use]
    pub fn bridges(&self) -> Vec<WayStatus> {
        let mut all: Vec<_> = self.ways().ways.lock().values().cloned().collect();
        let subscriptions = self.bus().stats();
        for one in &mut all {
            let WayKey { app, bridge, .. } = &one.key;
            let Some(name) = &one.key.subscription else {
                continue;
            };
            let key = SubscriptionKey {
                app: app.clone(),
                workload: bridge.clone(),
                name: name.clone(),
            };
            let row = subscriptions.iter().find(|row| row.subscription == key);
            one.lag = row.map_or(0, |row| row.backlog + row.in_flight + row.retrying);
        }
        all
    }

    /// How the cluster of a bridge is spoken to.
    ///
    /// # Errors
    /// `BROKER_FORBIDS` when the secret or the certificates are not there.
    pub(crate) async fn cluster(
        &self,
        kafka: &Kafka,
        version: VersionId,
    ) -> Result<Options, Error> {
        let forbids = |message: String| Error::new(code::BROKER_FORBIDS, message);
        let tls = match &kafka.tls {
            None => None,
            Some(tls) => Some(match &tls.ca {
                None => Trust::System,
                Some(ca) => {
                    let file = self.deployer().unpacked.join(version.to_string()).join(ca);
                    let read = spawn_blocking(move || certificates(&file)).await;
                    let read = read.map_err(Error::internal)?;
                    Trust::Pem(read.map_err(|error| forbids(format!("`{ca}`: {error}")))?)
                }
            }),
        };
        let login = match &kafka.login {
            None => None,
            Some(login) => {
                let password = self.deployer().secrets.get(&login.password);
                let password = password.ok_or_else(|| {
                    let name = &login.password;
                    forbids(format!(
                        "the secret `{name}`, the password of `{}`, is not set on this server",
                        login.user
                    ))
                })?;
                Some(Login {
                    mechanism: login.mechanism,
                    user: login.user.clone(),
                    password: password.to_string(),
                })
            }
        };
        Ok(Options {
            clock: self.clock().clone(),
            brokers: kafka.brokers.clone(),
            tls,
            login,
        })
    }

    /// Puts the reading of a topic elsewhere: of one partition, or all. Where each is now.
    ///
    /// # Errors
    /// `NO_SUCH_BRIDGE`, what the cluster fails with, those of the store.
    pub async fn seek(
        &self,
        (app, bridge, topic): (&str, &str, &str),
        partition: Option<i32>,
        to: ReadFrom,
        by: &str,
    ) -> Result<BTreeMap<i32, i64>, Error> {
        let (key, options) = self.reading(app, bridge, topic).await?;
        let cluster = Cluster::open(options).await?;
        let mut places = BTreeMap::new();
        for one in cluster.partitions(topic).await? {
            if partition.is_some_and(|wanted| wanted != one.number) {
                continue;
            }
            let first = one.start(Start::Earliest).await?;
            let last = one.start(Start::Latest).await?;
            let next = match to {
                ReadFrom::Earliest => first,
                ReadFrom::Latest => last,
                ReadFrom::Offset(offset) => offset.clamp(first, last.max(first)),
            };
            places.insert(one.number, next);
        }
        if places.is_empty() {
            let number = partition.unwrap_or_default();
            let message = format!("`{topic}` has no partition {number}");
            return Err(Error::new(code::NO_SUCH_BRIDGE, message));
        }
        let turn = self.ways().turn(&key);
        let mut held = pin!(turn.held.lock());
        let _held = loop {
            tokio::select! {
                held = &mut held => break held,
                () = self.clock().sleep(ASK) => turn.asked.notify_one(),
            }
        };
        let stored = places
            .iter()
            .map(|(number, next)| key.place(*number, *next));
        self.store().log().read_on(stored.collect()).await?;
        tracing::info!(app, bridge, topic, ?to, by, "a topic is read on elsewhere");
        Ok(places)
    }

    async fn reading(
        &self,
        app: &str,
        bridge: &str,
        topic: &str,
    ) -> Result<(WayKey, Options), Error> {
        let none = || {
            let message = format!("no bridge `{app}/{bridge}` reads `{topic}`");
            Error::new(code::NO_SUCH_BRIDGE, message)
        };
        let ways = self.bridges().into_iter().map(|one| one.key);
        let key = ways.into_iter().find(|key| {
            let named = (key.app.as_str(), key.bridge.as_str(), key.topic.as_str());
            key.way == Way::In && named == (app, bridge, topic)
        });
        let key = key.ok_or_else(none)?;
        let live = self.apps().find(app)?;
        let callee = live.callees.get(&key.bridge).ok_or_else(none)?;
        let Run::Kafka(kafka) = &callee.workload.run else {
            return Err(none());
        };
        let options = self.cluster(kafka, callee.version).await?;
        Ok((key, options))
    }
}
