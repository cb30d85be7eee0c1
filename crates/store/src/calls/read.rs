//! Reading invocations: what waits, one by its id, lists for people.

use bytes::Bytes;
use model::{InvocationId, Target, Time};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    blobs::Payload,
    calls::{Call, CallFilter, Calls, State, Waiting},
    error::{Error, Result},
    format,
    log::payload,
    shards::Shard,
};

const COLUMNS: &str =
    "seq, id, shard, state, accepted_at, due, attempts, finished_at, spec, history,
    body, blob, result, result_body, result_blob";

impl Calls {
    /// The targets that something waits for.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn targets(&self) -> Result<Vec<Target>> {
        self.kernel
            .read(|connection| {
                let mut statement = connection
                    .prepare_cached("SELECT DISTINCT target FROM call WHERE state = 0")?;
                let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
                rows.map(|bytes| format::decode(&bytes?, "target"))
                    .collect()
            })
            .await
    }

    /// What waits for a target, by when it is due, at most `limit`; what runs is among it.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn waiting(&self, target: &Target, limit: u32) -> Result<Vec<Waiting>> {
        let target = format::encode(target);
        self.kernel
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT due, id FROM call WHERE state = 0 AND target = ?1 ORDER BY due LIMIT ?2",
                )?;
                let rows = statement.query_map((target, limit), |row| {
                    Ok(Waiting {
                        due: Time(row.get(0)?),
                        id: id(row, 1)?,
                    })
                })?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    /// One invocation; [`Calls::body`] reads what its payloads hold.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn get(&self, id: InvocationId) -> Result<Option<Call>> {
        self.kernel
            .read(move |connection| {
                let sql = format!("SELECT {COLUMNS} FROM call WHERE id = ?1");
                let mut statement = connection.prepare_cached(&sql)?;
                let mut rows = statement.query([id.0.into_bytes()])?;
                let row = rows.next()?;
                row.map(|row| call(connection, row)).transpose()
            })
            .await
    }

    /// The bytes of an input or a result.
    ///
    /// # Errors
    /// [`Error::Io`] when the blob cannot be read.
    pub async fn body(&self, payload: Payload) -> Result<Bytes> {
        format::decode_raw(&self.blobs.load(payload).await?)
    }

    /// Invocations before the one at `before` (`None`: from the newest), newest first, at most `limit`.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn list(
        &self,
        filter: CallFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Call>> {
        self.kernel
            .read(move |connection| list(connection, &filter, before, limit))
            .await
    }

    /// How many wait or run.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn count_waiting(&self) -> Result<u64> {
        self.kernel
            .read(|connection| {
                let mut statement =
                    connection.prepare_cached("SELECT count(*) FROM call WHERE state = 0")?;
                Ok(statement
                    .query_row([], |row| row.get(0))
                    .optional()?
                    .unwrap_or(0))
            })
            .await
    }
}

fn list(
    connection: &Connection,
    filter: &CallFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Call>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM call
         WHERE seq < ?1 AND (?2 IS NULL OR namespace = ?2) AND (?3 IS NULL OR app = ?3)
           AND (?4 IS NULL OR workload = ?4) AND (?5 IS NULL OR state = ?5)
         ORDER BY seq DESC LIMIT ?6"
    ))?;
    let text = |name: &Option<model::Name>| name.as_ref().map(|name| name.as_str().to_owned());
    let mut rows = statement.query((
        before.unwrap_or(i64::MAX),
        text(&filter.namespace),
        text(&filter.app),
        text(&filter.workload),
        filter.state.map(State::number),
        limit,
    ))?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        calls.push(call(connection, row)?);
    }
    Ok(calls)
}

fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<InvocationId> {
    let bytes: [u8; 16] = row.get(column)?;
    Ok(from_bytes(bytes))
}

fn from_bytes(bytes: [u8; 16]) -> InvocationId {
    let text = hex::encode(bytes);
    text.parse().expect("32 hex digits are a UUID")
}

fn call(connection: &Connection, row: &Row<'_>) -> Result<Call> {
    let result: Option<Vec<u8>> = row.get(12)?;
    let (result_body, result_blob): (Option<Vec<u8>>, Option<[u8; 32]>) =
        (row.get(13)?, row.get(14)?);
    let has_body = result_body.is_some() || result_blob.is_some();
    Ok(Call {
        seq: row.get(0)?,
        id: id(row, 1)?,
        shard: Shard(row.get(2)?),
        state: State::from_number(row.get(3)?).ok_or(Error::Corrupt("state"))?,
        accepted_at: Time(row.get(4)?),
        due: Time(row.get(5)?),
        attempts: row.get(6)?,
        finished_at: row.get::<_, Option<u64>>(7)?.map(Time),
        spec: format::decode(&row.get::<_, Vec<u8>>(8)?, "call")?,
        history: format::decode(&row.get::<_, Vec<u8>>(9)?, "history")?,
        body: payload(connection, row.get(10)?, row.get(11)?)?,
        result: result
            .map(|bytes| format::decode(&bytes, "result"))
            .transpose()?,
        result_body: has_body
            .then(|| payload(connection, result_body, result_blob))
            .transpose()?,
    })
}
