//! Reading: values by their keys, lists in pages, totals. What was acknowledged is seen by every read that begins later.

use bytes::Bytes;
use model::{
    AppName, ByteSize, Name, Namespace, Time,
    keyvalue::{After, Bucket, BucketTotals, Entry, Listed, Revision},
};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    blobs::Payload,
    error::{Error, Result},
    format,
    kv::Kv,
    log::payload,
};

impl Kv {
    /// What is under each of `keys`, in their order, all at one moment.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when several values are together larger than one may be; those of reading.
    pub async fn get(&self, bucket: &Bucket, keys: Vec<String>) -> Result<Vec<Option<Entry>>> {
        let bucket = bucket.clone();
        let rows = self.kernel.read(move |connection| {
            let Some(id) = find(connection, &bucket)? else {
                return Ok(vec![None; keys.len()]);
            };
            keys.iter().map(|key| value(connection, id, key)).collect()
        });
        let rows: Vec<Option<(Payload, Revision)>> = rows.await?;
        let sizes = rows.iter().flatten().map(|(payload, _)| payload.len());
        let most = self.kernel.limits.kv_value;
        if rows.len() > 1 && sizes.sum::<u64>() > most.0 + rows.len() as u64 {
            return Err(Error::TooLarge(most));
        }
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            entries.push(match row {
                Some((payload, revision)) => Some(Entry {
                    value: self.decode(payload).await?,
                    revision,
                }),
                None => None,
            });
        }
        Ok(entries)
    }

    /// What is known of `key` without its value; `None`: there is nothing.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn look(&self, bucket: &Bucket, key: String) -> Result<Option<Listed>> {
        let bucket = bucket.clone();
        let look = self.kernel.read(move |connection| {
            let Some(id) = find(connection, &bucket)? else {
                return Ok(None);
            };
            let sql = format!("SELECT {LISTED} FROM kv WHERE bucket = ?1 AND key = ?2");
            let mut statement = connection.prepare_cached(&sql)?;
            Ok(statement.query_row((id, key), listed).optional()?)
        });
        look.await
    }

    /// At most `limit` keys that begin with `prefix`, from where `after` says.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn list(
        &self,
        bucket: &Bucket,
        prefix: String,
        after: After,
        limit: u32,
    ) -> Result<Vec<Listed>> {
        let bucket = bucket.clone();
        let list = self.kernel.read(move |connection| {
            let Some(id) = find(connection, &bucket)? else {
                return Ok(Vec::new());
            };
            match after {
                After::Start => by_key(connection, id, &prefix, "", limit),
                After::Key(key) => by_key(connection, id, &prefix, &key, limit),
                After::Number(number) => by_number(connection, id, &prefix, number, limit),
            }
        });
        list.await
    }

    /// The buckets of `app`, or of all apps, that were ever written.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn buckets(
        &self,
        namespace: &Namespace,
        app: Option<AppName>,
    ) -> Result<Vec<BucketTotals>> {
        let namespace = namespace.to_string();
        let read = self.kernel.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT app, name, keys, bytes FROM kv_bucket
                 WHERE namespace = ?1 AND (?2 IS NULL OR app = ?2) ORDER BY app, name",
            )?;
            let app = app.as_ref().map(Name::as_str);
            let rows = statement.query_map((namespace, app), |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get(2)?,
                    row.get(3)?,
                ))
            })?;
            rows.map(|row| {
                let (app, bucket, keys, bytes) = row?;
                let name = |text: &str| Name::new(text).map_err(|_| Error::Corrupt("bucket"));
                Ok(BucketTotals {
                    app: name(&app)?,
                    bucket: name(&bucket)?,
                    keys,
                    bytes: ByteSize(bytes),
                })
            })
            .collect()
        });
        read.await
    }

    async fn decode(&self, payload: Payload) -> Result<Bytes> {
        format::decode_raw(&self.blobs.load(payload).await?)
    }
}

const LISTED: &str = "key, number, size, revision, updated_at";

fn find(connection: &Connection, bucket: &Bucket) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM kv_bucket WHERE namespace = ?1 AND app = ?2 AND name = ?3",
    )?;
    let key = (
        bucket.namespace.as_str(),
        bucket.app.as_str(),
        bucket.name.as_str(),
    );
    Ok(statement.query_row(key, |row| row.get(0)).optional()?)
}

fn value(connection: &Connection, bucket: i64, key: &str) -> Result<Option<(Payload, Revision)>> {
    let mut statement = connection
        .prepare_cached("SELECT body, blob, revision FROM kv WHERE bucket = ?1 AND key = ?2")?;
    let mut rows = statement.query((bucket, key))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let payload = payload(connection, row.get(0)?, row.get(1)?)?;
    Ok(Some((payload, Revision(row.get(2)?))))
}

/// Keys are compared by their bytes, so that those of one prefix stand together and the first other one ends the list.
fn by_key(
    connection: &Connection,
    bucket: i64,
    prefix: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<Listed>> {
    let sql = format!(
        "SELECT {LISTED} FROM kv WHERE bucket = ?1 AND key > ?2 AND key >= ?3 ORDER BY key LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((bucket, after, prefix, limit))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let row = listed(row)?;
        if !row.key.starts_with(prefix) {
            break;
        }
        found.push(row);
    }
    Ok(found)
}

fn by_number(
    connection: &Connection,
    bucket: i64,
    prefix: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<Listed>> {
    let sql = format!(
        "SELECT {LISTED} FROM kv WHERE bucket = ?1 AND number > ?2 AND substr(key, 1, ?3) = ?4
         ORDER BY number LIMIT ?5"
    );
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&sql)?;
    let asked = (bucket, after, prefix.chars().count(), prefix, limit);
    let rows = statement.query_map(asked, listed)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    Ok(Listed {
        key: row.get(0)?,
        number: row.get(1)?,
        size: row.get(2)?,
        revision: Revision(row.get(3)?),
        updated_at: Time(row.get(4)?),
    })
}
