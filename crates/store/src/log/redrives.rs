//! What operators do to dead letters: trying them again, giving them another event, throwing them away; who did it is
//! noted in the same commit.

use model::Position;
use serde_json::json;

use crate::{
    batch::Batch,
    blobs::{Payload, refs},
    error::{Error, Result},
    format,
    log::{Attempt, LeftDead, Redriven, SubscriptionId, audit},
};

/// Where a dead letter belongs.
struct Place {
    log: i64,
    key: [String; 3],
    position: Position,
    lane: Option<i64>,
}

fn place(batch: &Batch<'_>, id: i64) -> Result<Place> {
    let place = batch.row(
        "SELECT log, app, workload, name, position, lane FROM dead_letter WHERE id = ?1",
        [id],
        |row| {
            Ok(Place {
                log: row.get(0)?,
                key: [row.get(1)?, row.get(2)?, row.get(3)?],
                position: Position(row.get(4)?),
                lane: row.get(5)?,
            })
        },
    )?;
    place.ok_or(Error::NotFound("dead letter"))
}

/// What holds the key of a letter that is gone.
fn left(batch: &Batch<'_>, place: &Place) -> Result<Option<LeftDead>> {
    let Some(lane) = place.lane else {
        return Ok(None);
    };
    let [app, workload, name] = &place.key;
    let first: Option<Option<u64>> = batch.row(
        "SELECT min(position) FROM dead_letter
         WHERE log = ?1 AND app = ?2 AND workload = ?3 AND name = ?4 AND lane = ?5",
        (place.log, app, workload, name, lane),
        |row| row.get(0),
    )?;
    let first = first.flatten().map(Position);
    Ok(Some(LeftDead { lane, first }))
}

/// Moves a dead letter back to the retries.
pub(super) fn redrive(batch: &Batch<'_>, id: i64) -> Result<Redriven> {
    let place = place(batch, id)?;
    let [app, workload, name] = &place.key;
    let subscription: i64 = batch
        .row(
            "SELECT id FROM subscription WHERE log = ?1 AND app = ?2 AND workload = ?3 AND name = ?4
             AND end IS NULL",
            (place.log, app, workload, name),
            |row| row.get(0),
        )?
        .ok_or(Error::NotFound("subscription"))?;
    let moved = batch.execute(
        "INSERT INTO retry (subscription, log, position, due, attempts, born, first_at, published_at, history,
                            cause, body, blob, lane, replay)
         SELECT ?2, log, position, ?3, 0, ?3, ?3, published_at, ?4, cause, body, blob, lane, replay
         FROM dead_letter WHERE id = ?1 ON CONFLICT (subscription, position) DO NOTHING",
        (id, subscription, batch.now.0, format::encode::<[Attempt; 0]>(&[])),
    )?;
    if moved == 0 {
        return Err(Error::Conflict(
            "this event is being delivered again already".to_owned(),
        ));
    }
    batch.execute("DELETE FROM dead_letter WHERE id = ?1", [id])?;
    Ok(Redriven {
        subscription: SubscriptionId(subscription),
        position: place.position,
        due: batch.now,
        lane: place.lane,
        dead: true,
        left: left(batch, &place)?,
    })
}

/// Moves one dead letter back to the retries, and notes who did.
pub(super) fn redrive_one(batch: &Batch<'_>, id: i64, by: &str) -> Result<Redriven> {
    let subject = place(batch, id)?.key.join("/");
    let redriven = redrive(batch, id)?;
    audit::note(
        batch,
        by,
        "redrive",
        &subject,
        &json!({"letter": id, "position": redriven.position}),
    )?;
    Ok(redriven)
}

/// Gives a dead letter another event.
pub(super) fn edit(batch: &Batch<'_>, id: i64, body: &Payload, by: &str) -> Result<()> {
    let place = place(batch, id)?;
    let before: Option<Option<Vec<u8>>> =
        batch.row("SELECT blob FROM dead_letter WHERE id = ?1", [id], |row| {
            row.get(0)
        })?;
    let (inline, blob) = body.columns();
    batch.execute(
        "UPDATE dead_letter SET body = ?2, blob = ?3 WHERE id = ?1",
        (id, inline, blob),
    )?;
    if let Some(blob) = body.blob() {
        refs::add(batch, blob)?;
    }
    if let Some(hash) = before.flatten() {
        refs::release(batch, &hash)?;
    }
    let detail = json!({"letter": id, "position": place.position, "bytes": body.len()});
    audit::note(batch, by, "edit", &place.key.join("/"), &detail)
}

/// Removes a dead letter.
pub(super) fn discard(batch: &Batch<'_>, id: i64, by: &str) -> Result<Option<LeftDead>> {
    let place = place(batch, id)?;
    let detail = json!({"letter": id, "position": place.position});
    audit::note(batch, by, "discard", &place.key.join("/"), &detail)?;
    let blob: Option<Option<Vec<u8>>> = batch.row(
        "DELETE FROM dead_letter WHERE id = ?1 RETURNING blob",
        [id],
        |row| row.get(0),
    )?;
    if let Some(hash) = blob.flatten() {
        refs::release(batch, &hash)?;
    }
    left(batch, &place)
}
