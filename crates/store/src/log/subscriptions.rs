//! Which subscriptions an app has, as ranges of positions. A switch is one command: what ends ends at the head of the
//! log, what begins begins there, so that for each event it is known which applied.

use std::{collections::BTreeMap, sync::Arc};

use model::{AppName, Name, Namespace, Position, Subscription, SubscriptionKey};
use rusqlite::Row;

use crate::{
    batch::Batch,
    command,
    error::{Error, Result},
    format,
    log::{
        Command, Log, Reply, StoredCursor, UNEXPECTED, append, cursors, projections,
        tail::Committed,
    },
    shards::{Owned, Shard},
};

/// A range of positions that goes to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub i64);

/// A subscription as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSubscription {
    /// Its row.
    pub id: SubscriptionId,
    /// Where its events are published.
    pub namespace: Namespace,
    /// Whom it is for.
    pub key: SubscriptionKey,
    /// Which part of the work it is.
    pub shard: Shard,
    /// Filter, retry policy, concurrency.
    pub spec: Subscription,
    /// Events after this position.
    pub begin: Position,
    /// Events up to this position; `None` while it lives.
    pub end: Option<Position>,
    /// Which generation of a projection it feeds.
    pub generation: Option<u32>,
}

impl StoredSubscription {
    /// The key that its manifest gives it: without the number of a generation.
    #[must_use]
    pub fn base(&self) -> SubscriptionKey {
        match self.generation {
            None => self.key.clone(),
            Some(_) => SubscriptionKey {
                name: self.spec.name.clone(),
                ..self.key.clone()
            },
        }
    }
}

/// What a switch changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Switched {
    /// The head of the log at the switch.
    pub at: Position,
    /// Ended: no event after `at` goes to them.
    pub ended: Vec<SubscriptionId>,
    /// Began: every event after `at` that matches goes to them.
    pub began: Vec<StoredSubscription>,
    /// Go on with another retry policy or concurrency.
    pub changed: Vec<StoredSubscription>,
    /// Gone with all that they had left to do.
    pub dropped: Vec<SubscriptionId>,
}

impl Switched {
    /// One that changes nothing yet.
    pub(super) const fn at(at: Position) -> Self {
        Self {
            at,
            ended: Vec::new(),
            began: Vec::new(),
            changed: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

/// From where a subscription gets events.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    /// From what is published next.
    Head,
    /// From the first that the log has, for this generation of a projection.
    Beginning(u32),
}

/// The subscriptions that an app is to have.
pub struct Switch {
    namespace: Namespace,
    app: AppName,
    wanted: BTreeMap<SubscriptionKey, Subscription>,
}

impl Log {
    /// Says which subscriptions `app` has from now on. Those with the same key, filter and key of order go on; the others end at the
    /// head of the log, and new ones begin there. Saying the same again changes nothing.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn switch(
        &self,
        namespace: &Namespace,
        app: &AppName,
        wanted: BTreeMap<SubscriptionKey, Subscription>,
    ) -> Result<Arc<Switched>> {
        let switch = Command::Switch(Switch {
            namespace: namespace.clone(),
            app: app.clone(),
            wanted,
        });
        match self.run(switch).await? {
            command::Reply::Log(Reply::Switched(switched)) => Ok(switched),
            _ => Err(UNEXPECTED),
        }
    }

    /// All subscriptions with their cursors, the ended ones that still have work included.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn subscriptions(&self) -> Result<Vec<(StoredSubscription, StoredCursor)>> {
        self.kernel
            .read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT s.id, l.namespace, s.app, s.workload, s.name, s.shard, s.spec, s.begin, s.end, s.generation,
                            c.through, c.idle, c.running, l.mark, c.passed
                     FROM subscription s JOIN log l ON l.id = s.log
                     JOIN cursor c ON c.subscription = s.id ORDER BY s.id",
                )?;
                let mut rows = statement.query([])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push((read(row)?, cursors::read(row, 10)?.decode()?));
                }
                Ok(found)
            })
            .await
    }

    /// Forgets an ended subscription that has nothing left to do.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn finish(&self, owned: Owned, id: SubscriptionId) -> Result<()> {
        self.run(Command::Finish(owned, id)).await.map(|_| ())
    }
}

impl Switch {
    pub(super) fn apply(&self, batch: &mut Batch<'_>) -> Result<Arc<Switched>> {
        let head = append::head(batch, &self.namespace)?;
        let (projections, mut wanted): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .wanted
            .iter()
            .partition(|(_, spec)| spec.projection.is_some());
        let mut switched = Switched::at(head.head);
        let live = self.live(batch, head.log)?;
        let (generations, live): (Vec<_>, Vec<_>) = live
            .into_iter()
            .partition(|stored| stored.generation.is_some());
        for mut stored in live {
            match wanted.get(&stored.key) {
                Some(spec) if goes_on(&stored.spec, spec) => {
                    if **spec != stored.spec {
                        stored.spec = (*spec).clone();
                        write_spec(batch, &stored)?;
                        switched.changed.push(stored.clone());
                    }
                    wanted.remove(&stored.key);
                }
                _ => end(batch, stored.id, &mut switched)?,
            }
        }
        for (key, spec) in wanted {
            let began = begin(batch, &self.namespace, key, spec, Start::Head)?;
            switched.began.push(began);
        }
        projections::deploy(
            batch,
            &self.namespace,
            &projections,
            generations,
            &mut switched,
        )?;
        let switched = Arc::new(switched);
        let committed = Committed::Switched(self.namespace.clone(), Arc::clone(&switched));
        batch.log.effects.push(committed);
        Ok(switched)
    }

    fn live(&self, batch: &Batch<'_>, log: i64) -> Result<Vec<StoredSubscription>> {
        let mut statement = batch.prepare(
            "SELECT s.id, l.namespace, s.app, s.workload, s.name, s.shard, s.spec, s.begin, s.end, s.generation
             FROM subscription s JOIN log l ON l.id = s.log
             WHERE s.log = ?1 AND s.app = ?2 AND s.end IS NULL ORDER BY s.id",
        )?;
        let mut rows = statement.query((log, self.app.as_str()))?;
        let mut live = Vec::new();
        while let Some(row) = rows.next()? {
            live.push(read(row)?);
        }
        Ok(live)
    }
}

/// Begins a subscription.
pub(super) fn begin(
    batch: &Batch<'_>,
    namespace: &Namespace,
    key: &SubscriptionKey,
    spec: &Subscription,
    start: Start,
) -> Result<StoredSubscription> {
    let head = append::head(batch, namespace)?;
    let (begin, generation) = match start {
        Start::Head => (head.head, None),
        Start::Beginning(number) => (Position(0), Some(number)),
    };
    let (app, workload, name) = (key.app.as_str(), key.workload.as_str(), key.name.as_str());
    let shard = Shard::of(&[namespace.as_str(), app, workload, name]);
    batch.execute(
        "INSERT INTO subscription (log, app, workload, name, shard, begin, spec, generation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        (
            head.log,
            app,
            workload,
            name,
            shard.0,
            begin.0,
            format::encode(spec),
            generation,
        ),
    )?;
    let id = batch.last_id();
    // One that begins behind the head is not idle: the log's mark does not speak for it.
    batch.execute(
        "INSERT INTO cursor (subscription, low, through, idle) VALUES (?1, ?2, ?2, ?3)",
        (id, begin.0, begin == head.head),
    )?;
    Ok(StoredSubscription {
        id: SubscriptionId(id),
        namespace: namespace.clone(),
        key: key.clone(),
        shard,
        spec: spec.clone(),
        begin,
        end: None,
        generation,
    })
}

/// Ends a subscription at the head.
pub(super) fn end(batch: &Batch<'_>, id: SubscriptionId, switched: &mut Switched) -> Result<()> {
    batch.execute(
        "UPDATE subscription SET end = ?2 WHERE id = ?1",
        (id.0, switched.at.0),
    )?;
    switched.ended.push(id);
    Ok(())
}

/// Writes what a subscription asks for from now on.
pub(super) fn write_spec(batch: &Batch<'_>, stored: &StoredSubscription) -> Result<()> {
    batch.execute(
        "UPDATE subscription SET spec = ?2 WHERE id = ?1",
        (stored.id.0, format::encode(&stored.spec)),
    )?;
    Ok(())
}

/// The last position that a log has removed.
pub(super) fn tail(batch: &Batch<'_>, log: i64) -> Result<Position> {
    let tail = batch.row("SELECT tail FROM log WHERE id = ?1", [log], |row| {
        row.get(0).map(Position)
    })?;
    Ok(tail.unwrap_or_default())
}

/// Whether a subscription goes on where it is with this specification: the same events, by the same key.
pub(super) fn goes_on(before: &Subscription, after: &Subscription) -> bool {
    let key = |spec: &Subscription| spec.order.as_ref().map(|order| order.key.clone());
    before.filter == after.filter && key(before) == key(after)
}

/// Removes an ended subscription; its dead letters stay.
pub(super) fn finish(batch: &mut Batch<'_>, id: SubscriptionId) -> Result<()> {
    let ended = batch.execute(
        "DELETE FROM subscription WHERE id = ?1 AND end IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM retry WHERE subscription = ?1)",
        [id.0],
    )?;
    if ended == 0 {
        return Err(Error::Conflict(
            "the subscription lives, has work, or is gone".to_owned(),
        ));
    }
    batch.log.moved.remove(&id);
    batch.execute("DELETE FROM cursor WHERE subscription = ?1", [id.0])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<StoredSubscription> {
    let name = |column: usize| -> Result<Name> {
        let text: String = row.get(column)?;
        Name::new(&text).map_err(|_| Error::Corrupt("name"))
    };
    Ok(StoredSubscription {
        id: SubscriptionId(row.get(0)?),
        namespace: name(1)?,
        key: SubscriptionKey {
            app: name(2)?,
            workload: name(3)?,
            name: name(4)?,
        },
        shard: Shard(row.get(5)?),
        spec: format::decode(&row.get::<_, Vec<u8>>(6)?, "subscription")?,
        begin: Position(row.get(7)?),
        end: row.get::<_, Option<u64>>(8)?.map(Position),
        generation: row.get(9)?,
    })
}
