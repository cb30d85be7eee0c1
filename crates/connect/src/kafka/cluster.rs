//! Clusters: connections, partitions, reading and writing. Every exchange ends; TLS is rustls with AWS-LC.

use std::{fmt, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use model::{Clock, Time, outside::KafkaMechanism};
use rskafka::{
    BackoffConfig,
    chrono::DateTime,
    client::{
        Client, ClientBuilder, Credentials, SaslConfig,
        error::Error as Fault,
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};

use super::{Error, Message};
use crate::tls;

/// How long the client itself waits in all before it tries again what a broker may be over with soon (another leader, a
/// connection that broke); what lasts longer is tried again above, and told.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long anything may take that reads.
const LONGEST: Duration = Duration::from_secs(15);
/// How long writing may take: replicas that catch up are worth waiting for, since who tries again writes again.
const LONGEST_WRITE: Duration = Duration::from_secs(45);
/// How long a broker waits for records when there are none.
const WAIT: Duration = Duration::from_millis(500);
/// Bytes of one fetch, unless one batch of records alone is larger.
const FETCH: i32 = 1 << 20;
/// The largest answer that is read.
const ANSWER: usize = 64 << 20;

/// Which cluster, and how it is spoken to.
#[derive(Clone)]
pub struct Options {
    /// The clock.
    pub clock: Clock,
    /// Some of its brokers: `host:port`.
    pub brokers: Vec<String>,
    /// With whom TLS is spoken; `None`: it is not.
    pub tls: Option<Trust>,
    /// Who we are there.
    pub login: Option<Login>,
}

/// Who is believed to be who they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Whom the machine trusts.
    System,
    /// Who has a certificate that leads to one of these, in PEM.
    Pem(Vec<u8>),
}

/// A name and a password.
#[derive(Clone)]
pub struct Login {
    /// How it is shown.
    pub mechanism: KafkaMechanism,
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Login");
        shown.field("user", &self.user).finish_non_exhaustive()
    }
}

/// A cluster.
pub struct Cluster {
    client: Client,
    clock: Clock,
}

/// One partition of a topic.
pub struct Partition {
    client: PartitionClient,
    clock: Clock,
    /// Its number.
    pub number: i32,
}

/// From where a topic is read that was not read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// All that is there.
    Earliest,
    /// What comes from now on.
    Latest,
}

/// What was fetched.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Records with their offsets, ascending.
    pub messages: Vec<(i64, Message)>,
    /// Where to read on.
    pub next: i64,
    /// The offset that the next record of the partition will have.
    pub end: i64,
}

impl Cluster {
    /// Finds the brokers of a cluster by some of them.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Forbidden`], [`Error::Certificates`].
    pub async fn open(options: Options) -> Result<Self, Error> {
        let Options {
            clock,
            brokers,
            tls,
            login,
        } = options;
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(500),
            base: 2.0,
            deadline: Some(PATIENCE),
        };
        let mut builder = ClientBuilder::new(brokers)
            .client_id("tangelo")
            .max_message_size(ANSWER)
            .backoff_config(backoff);
        if let Some(trust) = tls {
            let config = match &trust {
                Trust::System => tls::system().await,
                Trust::Pem(pem) => tls::in_pem(pem).map_err(Error::Certificates)?,
            };
            builder = builder.tls_config(config);
        }
        if let Some(login) = login {
            let credentials = Credentials::new(login.user, login.password);
            builder = builder.sasl_config(match login.mechanism {
                KafkaMechanism::Plain => SaslConfig::Plain(credentials),
                KafkaMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
                KafkaMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
            });
        }
        let client = within(&clock, LONGEST, "the brokers", builder.build()).await?;
        Ok(Self { client, clock })
    }

    /// The partitions of a topic, by number.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`], [`Error::Unreachable`], [`Error::Forbidden`].
    pub async fn partitions(&self, topic: &str) -> Result<Vec<Partition>, Error> {
        let mut partitions = Vec::new();
        for number in self.numbers(topic).await? {
            let unknown = UnknownTopicHandling::Error;
            let opening = self.client.partition_client(topic, number, unknown);
            partitions.push(Partition {
                client: within(&self.clock, LONGEST, topic, opening).await?,
                clock: self.clock.clone(),
                number,
            });
        }
        Ok(partitions)
    }

    /// The numbers of a topic's partitions, ascending.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`], [`Error::Unreachable`].
    pub async fn numbers(&self, topic: &str) -> Result<Vec<i32>, Error> {
        let listing = self.client.list_topics();
        let topics = within(&self.clock, LONGEST, "the topics", listing).await?;
        let found = topics.into_iter().find(|one| one.name == topic);
        let found = found.filter(|one| !one.partitions.is_empty());
        let found = found.ok_or_else(|| Error::NoSuchTopic(topic.to_owned()))?;
        Ok(found.partitions.into_iter().collect())
    }
}

impl Partition {
    /// The offset to begin at.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn start(&self, at: Start) -> Result<i64, Error> {
        let at = match at {
            Start::Earliest => OffsetAt::Earliest,
            Start::Latest => OffsetAt::Latest,
        };
        let asking = self.client.get_offset(at);
        within(&self.clock, LONGEST, "an offset", asking).await
    }

    /// What there is from an offset on; waits half a second for something. Of transactions, those that were not committed are
    /// waited for.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::OutOfRange`].
    pub async fn fetch(&self, from: i64) -> Result<Fetched, Error> {
        let fetched = self.fetch_once(from).await?;
        if !fetched.messages.is_empty() || from >= fetched.end {
            return Ok(fetched);
        }
        // Nothing, though there is something: a transaction that is still open, or what is no record (the marker that ended
        // one, what compaction left). What is before the latest offset that is given out is decided.
        if from >= self.start(Start::Latest).await? {
            return Ok(fetched);
        }
        // It may have been decided since; if there is nothing now, there is none.
        let mut again = self.fetch_once(from).await?;
        if again.messages.is_empty() {
            again.next = from + 1;
        }
        Ok(again)
    }

    async fn fetch_once(&self, from: i64) -> Result<Fetched, Error> {
        let wait = i32::try_from(WAIT.as_millis()).unwrap_or(500);
        let fetching = self.client.fetch_records(from, 1..FETCH, wait);
        let (records, end) = within(&self.clock, LONGEST, "records", fetching).await?;
        let mut fetched = Fetched {
            next: from,
            end,
            ..Fetched::default()
        };
        for one in records.into_iter().filter(|one| one.offset >= from) {
            fetched.next = one.offset + 1;
            fetched.messages.push((one.offset, message(one.record)));
        }
        Ok(fetched)
    }

    /// Appends records, all or none, and waits until every replica in sync has them.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Unreachable`]: then they may be there nevertheless.
    pub async fn produce(&self, messages: Vec<Message>) -> Result<(), Error> {
        let now = self.clock.now();
        let records = messages.into_iter().map(|message| record(message, now));
        let compression = Compression::NoCompression;
        let producing = self.client.produce(records.collect(), compression);
        let written = within(&self.clock, LONGEST_WRITE, "a partition", producing).await;
        written.map(drop)
    }
}

/// One exchange, with an end: `what` is for whoever reads that it did not come.
async fn within<T>(
    clock: &Clock,
    longest: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Error> {
    let timer = pin!(clock.sleep(longest));
    match select(pin!(work), timer).await {
        Either::Left((Ok(done), _)) => Ok(done),
        Either::Left((Err(fault), _)) => Err(fault.into()),
        Either::Right(_) => {
            let seconds = longest.as_secs();
            Err(Error::Unreachable(format!(
                "no answer about {what} within {seconds} s"
            )))
        }
    }
}

fn message(record: Record) -> Message {
    let micros = record.timestamp.timestamp_micros();
    Message {
        key: record.key,
        value: record.value,
        headers: record.headers,
        time: u64::try_from(micros).ok().map(Time),
    }
}

fn record(message: Message, now: Time) -> Record {
    let at = message.time.unwrap_or(now);
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    Record {
        key: message.key,
        value: message.value,
        headers: message.headers,
        timestamp: DateTime::from_timestamp_micros(micros).unwrap_or_default(),
    }
}
