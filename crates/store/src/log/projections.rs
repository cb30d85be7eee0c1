//! Projections: which generations each has, and which of them is live. A generation is a subscription that begins at the
//! beginning of the log; what is switched or dropped is told by an event of the log, in the commit that does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    Cause, Event, Namespace, Position, Subscription, SubscriptionKey, Time, event::EventData,
    projection::Switching,
};
use serde_json::json;

use crate::{
    batch::Batch,
    blobs::refs,
    command,
    error::{Error, Result},
    format,
    log::{
        Command, Log, StoredSubscription, SubscriptionId, Switched, UNEXPECTED, append, audit,
        subscriptions, tail::Committed,
    },
};

/// A projection as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredProjection {
    /// Where its events are published.
    pub namespace: Namespace,
    /// What it is known by: `app/workload/name`.
    pub key: SubscriptionKey,
    /// The generation that readers use.
    pub live: u32,
    /// Who makes a new one live.
    pub switch: Switching,
    /// Those that are fed, ascending.
    pub generations: Vec<StoredGeneration>,
}

/// One generation of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredGeneration {
    /// Its number, from 1.
    pub number: u32,
    /// What feeds it.
    pub subscription: SubscriptionId,
    /// When it was begun.
    pub begun: Time,
    /// The head of the log at that time.
    pub head: Position,
    /// The last position that the log had removed at that time: what it can never have.
    pub gone: Position,
    /// Whether it is live, or was.
    pub switched: bool,
}

/// What an operator, or the bus itself, does to a projection.
pub struct Ask {
    namespace: Namespace,
    key: SubscriptionKey,
    by: String,
    cause: Arc<Cause>,
    what: What,
}

/// What is done to a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Begins a new generation; `true`: even if the log has lost some of its beginning.
    Rebuild(bool),
    /// Makes a generation the live one.
    Switch(u32),
    /// Ends the feed of a generation that is not live.
    Drop(u32),
}

impl Log {
    /// All projections that are fed, by key.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn projections(&self) -> Result<Vec<StoredProjection>> {
        let fed = self.subscriptions().await?;
        let rows = self
            .kernel
            .read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT g.subscription, g.number, g.begun, g.head, g.gone, g.switched, p.live
                     FROM generation g JOIN projection p ON p.id = g.projection",
                )?;
                let rows = statement.query_map([], |row| {
                    let generation = StoredGeneration {
                        subscription: SubscriptionId(row.get(0)?),
                        number: row.get(1)?,
                        begun: Time(row.get(2)?),
                        head: Position(row.get(3)?),
                        gone: Position(row.get(4)?),
                        switched: row.get(5)?,
                    };
                    Ok((generation.subscription, (generation, row.get(6)?)))
                })?;
                let rows: rusqlite::Result<BTreeMap<_, (_, u32)>> = rows.collect();
                Ok(rows?)
            })
            .await?;
        let mut all: BTreeMap<(Namespace, SubscriptionKey), StoredProjection> = BTreeMap::new();
        for (stored, _) in fed {
            let Some((generation, live)) = rows.get(&stored.id) else {
                continue;
            };
            let (namespace, key) = (stored.namespace.clone(), stored.base());
            let of = all
                .entry((namespace, key))
                .or_insert_with_key(|(n, k)| StoredProjection {
                    namespace: n.clone(),
                    key: k.clone(),
                    live: *live,
                    switch: Switching::Auto,
                    generations: Vec::new(),
                });
            // They come in the order in which they were begun: the last one has what was deployed last.
            of.switch = stored.spec.projection.unwrap_or_default().switch;
            of.generations.push(*generation);
        }
        Ok(all.into_values().collect())
    }

    /// Does something to a projection. A rebuild answers the number of the new generation; a switch, 1 or (it was live) 0.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Conflict`], [`Error::Gone`] when the log has lost some of what a rebuild needs; those of the
    /// writer.
    pub async fn projection(
        &self,
        namespace: &Namespace,
        key: &SubscriptionKey,
        what: What,
        by: &str,
        cause: Cause,
    ) -> Result<u64> {
        let ask = Ask {
            namespace: namespace.clone(),
            key: key.clone(),
            by: by.to_owned(),
            cause: Arc::new(cause),
            what,
        };
        match self.run(Command::Projection(Box::new(ask))).await? {
            command::Reply::Count(count) => Ok(count),
            _ => Err(UNEXPECTED),
        }
    }
}

/// Where a projection stands.
struct Row {
    id: i64,
    log: i64,
    live: u32,
    last: u32,
}

impl Ask {
    pub(super) fn apply(&self, batch: &mut Batch<'_>) -> Result<u64> {
        let log = append::head(batch, &self.namespace)?.log;
        let row = row(batch, log, &self.key)?.ok_or(Error::NotFound("projection"))?;
        match self.what {
            What::Rebuild(partial) => self.rebuild(batch, &row, partial),
            What::Switch(number) => self.switch(batch, &row, number),
            What::Drop(number) => self.drop(batch, &row, number),
        }
    }

    fn rebuild(&self, batch: &mut Batch<'_>, row: &Row, partial: bool) -> Result<u64> {
        let newest = batch.row(
            "SELECT number, subscription, switched FROM generation WHERE projection = ?1
             ORDER BY number DESC LIMIT 1",
            [row.id],
            |row| {
                Ok((
                    row.get::<_, u32>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, bool>(2)?,
                ))
            },
        )?;
        let Some((number, subscription, switched)) = newest else {
            return Err(Error::NotFound("projection"));
        };
        if !switched {
            return Err(Error::Conflict(format!(
                "generation {number} of `{}` is being built: switch to it, or drop it, first",
                self.key
            )));
        }
        let gone = subscriptions::tail(batch, row.log)?;
        if gone.0 > 0 && !partial {
            return Err(Error::Gone(gone.0));
        }
        let spec: Vec<u8> = batch
            .row(
                "SELECT spec FROM subscription WHERE id = ?1",
                [subscription],
                |row| row.get(0),
            )?
            .ok_or(Error::NotFound("projection"))?;
        let spec: Subscription = format::decode(&spec, "subscription")?;
        let began = begin(batch, &self.namespace, row, &self.key, &spec)?;
        let number = began.generation.unwrap_or_default();
        self.note(batch, "rebuild", number)?;
        self.tell_bus(batch, |switched| switched.began.push(began))?;
        Ok(u64::from(number))
    }

    fn switch(&self, batch: &mut Batch<'_>, row: &Row, number: u32) -> Result<u64> {
        subscription_of(batch, row, number)?;
        if row.live == number {
            return Ok(0);
        }
        make_live(batch, row.id, number)?;
        self.note(batch, "switch", number)?;
        self.tell(batch, "switched", number, row.live)?;
        Ok(1)
    }

    fn drop(&self, batch: &mut Batch<'_>, row: &Row, number: u32) -> Result<u64> {
        let id = subscription_of(batch, row, number)?;
        if row.live == number {
            return Err(Error::Conflict(format!(
                "generation {number} of `{}` is live: switch to another one first",
                self.key
            )));
        }
        forget(batch, id)?;
        self.note(batch, "drop", number)?;
        self.tell(batch, "dropped", number, row.live)?;
        self.tell_bus(batch, |switched| switched.dropped.push(id))?;
        Ok(1)
    }

    fn note(&self, batch: &Batch<'_>, action: &str, number: u32) -> Result<()> {
        let detail = json!({ "generation": number });
        audit::note(batch, &self.by, action, &self.key.to_string(), &detail)
    }

    /// Tells whoever keeps or reads the model, with an event.
    fn tell(&self, batch: &mut Batch<'_>, what: &str, number: u32, was: u32) -> Result<()> {
        let SubscriptionKey {
            app,
            workload,
            name,
        } = &self.key;
        let live = match what {
            "switched" => number,
            _ => was,
        };
        let event = Event {
            id: format!("{number}-{what}-{}", batch.now.0),
            source: format!("/tangelo/projections/{}", self.key),
            kind: format!("tangelo.projection.{what}"),
            subject: Some(self.key.to_string()),
            time: Some(batch.now),
            content_type: None,
            schema: None,
            extensions: BTreeMap::new(),
            data: EventData::Json(json!({
                "app": app, "workload": workload, "projection": name, "generation": number, "live": live, "was": was,
            })),
        };
        append::caused(batch, &self.namespace, event, &self.cause)
    }

    fn tell_bus(&self, batch: &mut Batch<'_>, add: impl FnOnce(&mut Switched)) -> Result<()> {
        let at = append::head(batch, &self.namespace)?.head;
        let mut switched = Switched::at(at);
        add(&mut switched);
        let committed = Committed::Switched(self.namespace.clone(), Arc::new(switched));
        batch.log.effects.push(committed);
        Ok(())
    }
}

/// Brings the generations of an app's projections to what a deploy wants: terms change in place; another filter, or another key
/// of order, begins a new generation beside those that there are, which keep what they ask for.
pub(super) fn deploy(
    batch: &mut Batch<'_>,
    namespace: &Namespace,
    wanted: &BTreeMap<&SubscriptionKey, &Subscription>,
    live: Vec<StoredSubscription>,
    switched: &mut Switched,
) -> Result<()> {
    let log = append::head(batch, namespace)?.log;
    let mut fed: BTreeMap<SubscriptionKey, Vec<StoredSubscription>> = BTreeMap::new();
    for generation in live {
        fed.entry(generation.base()).or_default().push(generation);
    }
    let bases: BTreeSet<SubscriptionKey> = fed.keys().cloned().collect();
    for base in bases.iter().filter(|base| !wanted.contains_key(base)) {
        for generation in fed.remove(base).into_iter().flatten() {
            subscriptions::end(batch, generation.id, switched)?;
            batch.execute(
                "DELETE FROM generation WHERE subscription = ?1",
                [generation.id.0],
            )?;
        }
    }
    for (base, spec) in wanted {
        let mut generations = fed.remove(base).unwrap_or_default();
        generations.sort_by_key(|generation| generation.generation);
        let same = |stored: &StoredSubscription| subscriptions::goes_on(&stored.spec, spec);
        let new = !generations.last().is_some_and(same);
        for mut stored in generations {
            let terms = Subscription {
                filter: stored.spec.filter.clone(),
                order: match subscriptions::goes_on(&stored.spec, spec) {
                    true => spec.order.clone(),
                    false => stored.spec.order.clone(),
                },
                ..(*spec).clone()
            };
            if terms != stored.spec {
                stored.spec = terms;
                subscriptions::write_spec(batch, &stored)?;
                switched.changed.push(stored);
            }
        }
        if new {
            let row = row_or_new(batch, log, base)?;
            switched
                .began
                .push(begin(batch, namespace, &row, base, spec)?);
        }
    }
    Ok(())
}

fn row(batch: &Batch<'_>, log: i64, key: &SubscriptionKey) -> Result<Option<Row>> {
    batch.row(
        "SELECT id, live, last FROM projection WHERE log = ?1 AND app = ?2 AND workload = ?3 AND name = ?4",
        (
            log,
            key.app.as_str(),
            key.workload.as_str(),
            key.name.as_str(),
        ),
        |row| {
            Ok(Row {
                id: row.get(0)?,
                log,
                live: row.get(1)?,
                last: row.get(2)?,
            })
        },
    )
}

/// The first generation of a new projection is live at once: there is nothing else to read.
fn row_or_new(batch: &Batch<'_>, log: i64, key: &SubscriptionKey) -> Result<Row> {
    if let Some(row) = row(batch, log, key)? {
        return Ok(row);
    }
    let (app, workload) = (key.app.as_str(), key.workload.as_str());
    batch.execute(
        "INSERT INTO projection (log, app, workload, name, live, last) VALUES (?1, ?2, ?3, ?4, 1, 0)",
        (log, app, workload, key.name.as_str()),
    )?;
    row(batch, log, key)?.ok_or(Error::Corrupt("projection"))
}

/// Begins the next generation, at the beginning of what the log has.
fn begin(
    batch: &mut Batch<'_>,
    namespace: &Namespace,
    row: &Row,
    key: &SubscriptionKey,
    spec: &Subscription,
) -> Result<StoredSubscription> {
    let number = row.last + 1;
    let (head, gone) = (
        append::head(batch, namespace)?.head,
        subscriptions::tail(batch, row.log)?,
    );
    let begun = subscriptions::begin(
        batch,
        namespace,
        &key.generation(number),
        spec,
        subscriptions::Start::Beginning(number),
    )?;
    batch.execute(
        "INSERT INTO generation (projection, number, subscription, begun, head, gone, switched)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            row.id,
            number,
            begun.id.0,
            batch.now.0,
            head.0,
            gone.0,
            number == row.live,
        ),
    )?;
    batch.execute(
        "UPDATE projection SET last = ?2 WHERE id = ?1",
        (row.id, number),
    )?;
    Ok(begun)
}

fn make_live(batch: &Batch<'_>, projection: i64, number: u32) -> Result<()> {
    batch.execute(
        "UPDATE projection SET live = ?2 WHERE id = ?1",
        (projection, number),
    )?;
    batch.execute(
        "UPDATE generation SET switched = 1 WHERE projection = ?1 AND number = ?2",
        (projection, number),
    )?;
    Ok(())
}

fn subscription_of(batch: &Batch<'_>, row: &Row, number: u32) -> Result<SubscriptionId> {
    let found = batch.row(
        "SELECT subscription FROM generation WHERE projection = ?1 AND number = ?2",
        (row.id, number),
        |row| row.get(0).map(SubscriptionId),
    )?;
    found.ok_or(Error::NotFound("generation"))
}

/// Removes a generation with all that it has left to do.
fn forget(batch: &mut Batch<'_>, id: SubscriptionId) -> Result<()> {
    let blobs: Vec<Vec<u8>> = {
        let mut statement = batch
            .prepare("DELETE FROM retry WHERE subscription = ?1 RETURNING coalesce(blob, x'')")?;
        let rows = statement.query_map([id.0], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    for hash in blobs.iter().filter(|hash| !hash.is_empty()) {
        refs::release(batch, hash)?;
    }
    batch.log.moved.remove(&id);
    for sql in [
        "DELETE FROM cursor WHERE subscription = ?1",
        "DELETE FROM subscription WHERE id = ?1",
        "DELETE FROM generation WHERE subscription = ?1",
    ] {
        batch.execute(sql, [id.0])?;
    }
    Ok(())
}
