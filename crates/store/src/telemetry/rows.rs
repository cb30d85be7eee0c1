//! Rows of a telemetry file, written and read.

use model::{Time, TraceId};
use rusqlite::{Connection, Row, params};

use super::file::{Block, BlockIndex, Part, Rank, StoredBlock};

pub(super) fn append(connection: &mut Connection, blocks: &[Block]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for block in blocks {
        let logs = matches!(block.index, BlockIndex::Logs(_));
        transaction
            .prepare_cached("INSERT INTO block(logs, first, last, bytes) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                logs,
                int(block.first),
                int(block.last),
                block.bytes
            ])?;
        let id = transaction.last_insert_rowid();
        match &block.index {
            BlockIndex::Spans(parts) => parts
                .iter()
                .try_for_each(|part| insert_part(&transaction, id, part))?,
            BlockIndex::Logs(keys) => keys
                .iter()
                .try_for_each(|key| insert_key(&transaction, id, *key))?,
        }
    }
    transaction.commit()
}

fn insert_part(connection: &Connection, block: i64, part: &Part) -> rusqlite::Result<()> {
    let sql = "INSERT INTO part VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    connection.prepare_cached(sql)?.execute(params![
        part.trace.0.to_be_bytes(),
        block,
        int(part.start),
        int(part.last),
        part.spans.cast_signed(),
        part.errors.cast_signed(),
        part.rank as i64,
        int(part.root_start),
        int(part.root_last),
        part.name,
        part.route,
        part.workloads,
    ])?;
    Ok(())
}

fn insert_key(connection: &Connection, block: i64, key: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO log_key VALUES (?1, ?2)")?
        .execute(params![key.cast_signed(), block])?;
    Ok(())
}

pub(super) fn part(row: &Row<'_>) -> rusqlite::Result<Part> {
    let rank: i64 = row.get("rank")?;
    Ok(Part {
        trace: TraceId(u128::from_be_bytes(row.get("trace")?)),
        start: time(row.get("start")?),
        last: time(row.get("last")?),
        spans: row.get::<_, i64>("spans")?.unsigned_abs(),
        errors: row.get::<_, i64>("errors")?.unsigned_abs(),
        rank: match rank {
            0 => Rank::Inner,
            1 => Rank::Local,
            _ => Rank::Root,
        },
        root_start: time(row.get("root_start")?),
        root_last: time(row.get("root_last")?),
        name: row.get("name")?,
        route: row.get("route")?,
        workloads: row.get("workloads")?,
    })
}

pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<StoredBlock> {
    Ok(StoredBlock {
        id: row.get(0)?,
        bytes: row.get(1)?,
    })
}

pub(super) fn int(time: Time) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

pub(super) const fn time(micros: i64) -> Time {
    Time(micros.unsigned_abs())
}

pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
