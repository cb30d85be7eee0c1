//! Writing: everything that can refuse is looked at first, so that a refusal leaves nothing half done.

use model::{
    ByteSize,
    keyvalue::{Bucket, Numbers, Revision},
};

use crate::{
    batch::Batch,
    blobs::{Payload, refs},
    error::{Error, Result},
    format,
    kv::{Encoded, Reply, Value, Written},
};

/// A row that is there.
struct Found {
    id: i64,
    revision: Revision,
    size: u64,
    body: Option<Vec<u8>>,
    blob: Option<Vec<u8>>,
}

/// What a command adds to its bucket.
#[derive(Default)]
struct Growth {
    keys: i64,
    bytes: i64,
}

impl Growth {
    /// `key` gets the value `new` (its bytes) in place of `found`.
    fn change(&mut self, key: &str, found: Option<&Found>, new: Option<u64>) {
        let whole = |size: u64| i64::try_from(size + key.len() as u64).unwrap_or(i64::MAX);
        self.keys += i64::from(new.is_some()) - i64::from(found.is_some());
        self.bytes += new.map_or(0, whole) - found.map_or(0, |found| whole(found.size));
    }
}

pub(super) fn write(batch: &Batch<'_>, bucket: &Bucket, changes: &[Encoded]) -> Result<Reply> {
    let id = find(batch, bucket)?;
    let mut growth = Growth::default();
    let mut rows = Vec::with_capacity(changes.len());
    for (at, change) in changes.iter().enumerate() {
        let found = row(batch, id, &change.key)?;
        let later = changes[at + 1..].iter().any(|l| l.key == change.key);
        if !later {
            if !change.condition.holds(found.as_ref().map(|f| f.revision)) {
                return Err(Error::Condition(change.key.clone()));
            }
            let new = change.value.as_ref().map(|value| value.size);
            growth.change(&change.key, found.as_ref(), new);
        }
        rows.push((!later).then_some(found));
    }
    check_room(batch, bucket, &growth)?;
    let mut made: Vec<Option<Written>> = Vec::with_capacity(changes.len());
    let mut known = id;
    for (change, found) in changes.iter().zip(rows) {
        let done = match found {
            None => None,
            Some(found) => Some(apply(batch, bucket, &mut known, change, found)?),
        };
        made.push(done);
    }
    if let Some(id) = known {
        grow(batch, id, &growth)?;
    }
    Ok(Reply::Written(settled(changes, &made)))
}

/// The result of every change: of one that a later change of the same key overtook, that one's.
fn settled(changes: &[Encoded], made: &[Option<Written>]) -> Vec<Written> {
    let of = |key: &str| {
        let mut same = changes.iter().zip(made).filter(|(c, _)| c.key == key);
        same.find_map(|(_, made)| *made)
    };
    let nothing = Written::Deleted { existed: false };
    changes
        .iter()
        .map(|change| of(&change.key).unwrap_or(nothing))
        .collect()
}

fn apply(
    batch: &Batch<'_>,
    bucket: &Bucket,
    known: &mut Option<i64>,
    change: &Encoded,
    found: Option<Found>,
) -> Result<Written> {
    let Some(value) = &change.value else {
        let existed = found.is_some();
        if let Some(found) = found {
            batch.execute("DELETE FROM kv WHERE id = ?1", [found.id])?;
            release(batch, &found)?;
        }
        return Ok(Written::Deleted { existed });
    };
    let id = match *known {
        Some(id) => id,
        None => *known.insert(make(batch, bucket)?),
    };
    let created = found.is_none();
    let revision = put(batch, id, &change.key, found, value)?;
    Ok(Written::Put { revision, created })
}

pub(super) fn increment(
    batch: &Batch<'_>,
    bucket: &Bucket,
    key: &str,
    by: i128,
    numbers: Numbers,
) -> Result<Reply> {
    let id = find(batch, bucket)?;
    let found = row(batch, id, key)?;
    let refuse = |why| {
        Err(Error::NotANumber {
            key: key.to_owned(),
            why,
        })
    };
    let before = match &found {
        None => 0,
        Some(found) => match number(found)? {
            Some(number) => number,
            None => return refuse("its value is no whole number in decimal digits"),
        },
    };
    let Some(sum) = before.checked_add(by).filter(|sum| numbers.contain(*sum)) else {
        return refuse("the sum is beyond 64 bits");
    };
    let text = sum.to_string();
    let value = Value {
        size: text.len() as u64,
        payload: Payload::Inline(format::encode_raw(text.as_bytes())),
    };
    let mut growth = Growth::default();
    growth.change(key, found.as_ref(), Some(value.size));
    check_room(batch, bucket, &growth)?;
    let id = match id {
        Some(id) => id,
        None => make(batch, bucket)?,
    };
    let revision = put(batch, id, key, found, &value)?;
    grow(batch, id, &growth)?;
    Ok(Reply::Incremented(sum, revision))
}

/// The number in a row, if it is one. What is in a blob is too long to be one.
fn number(found: &Found) -> Result<Option<i128>> {
    let Some(body) = &found.body else {
        return Ok(None);
    };
    let value = format::decode_raw(&bytes::Bytes::copy_from_slice(body))?;
    let text = std::str::from_utf8(&value).ok();
    Ok(text.and_then(|text| {
        text.parse::<i64>().map(i128::from).ok().or_else(|| {
            // What an unsigned counter may hold beyond a signed one.
            text.parse::<u64>().map(i128::from).ok()
        })
    }))
}

fn find(batch: &Batch<'_>, bucket: &Bucket) -> Result<Option<i64>> {
    batch.row(
        "SELECT id FROM kv_bucket WHERE namespace = ?1 AND app = ?2 AND name = ?3",
        parts(bucket),
        |row| row.get(0),
    )
}

fn make(batch: &Batch<'_>, bucket: &Bucket) -> Result<i64> {
    batch.execute(
        "INSERT INTO kv_bucket (namespace, app, name) VALUES (?1, ?2, ?3)",
        parts(bucket),
    )?;
    Ok(batch.last_id())
}

fn parts(bucket: &Bucket) -> (&str, &str, &str) {
    let Bucket {
        namespace,
        app,
        name,
    } = bucket;
    (namespace.as_str(), app.as_str(), name.as_str())
}

fn row(batch: &Batch<'_>, bucket: Option<i64>, key: &str) -> Result<Option<Found>> {
    let Some(bucket) = bucket else {
        return Ok(None);
    };
    batch.row(
        "SELECT id, revision, size, body, blob FROM kv WHERE bucket = ?1 AND key = ?2",
        (bucket, key),
        |row| {
            Ok(Found {
                id: row.get(0)?,
                revision: Revision(row.get(1)?),
                size: row.get(2)?,
                body: row.get(3)?,
                blob: row.get(4)?,
            })
        },
    )
}

fn put(
    batch: &Batch<'_>,
    bucket: i64,
    key: &str,
    found: Option<Found>,
    value: &Value,
) -> Result<Revision> {
    let next = batch.row(
        "UPDATE kv_bucket SET writes = writes + 1 WHERE id = ?1 RETURNING writes",
        [bucket],
        |row| row.get(0),
    )?;
    let revision: u64 = next.ok_or(Error::Corrupt("bucket"))?;
    let (body, blob) = value.payload.columns();
    if let Some(blob) = value.payload.blob() {
        refs::add(batch, blob)?;
    }
    match found {
        Some(found) => {
            batch.execute(
                "UPDATE kv SET revision = ?2, updated_at = ?3, size = ?4, body = ?5, blob = ?6 WHERE id = ?1",
                (found.id, revision, batch.now.0, value.size, body, blob),
            )?;
            release(batch, &found)?;
        }
        None => {
            // The write that made the key is its number: ascending, and unique in the bucket.
            batch.execute(
                "INSERT INTO kv (bucket, key, number, revision, updated_at, size, body, blob)
                 VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7)",
                (bucket, key, revision, batch.now.0, value.size, body, blob),
            )?;
        }
    }
    Ok(Revision(revision))
}

fn release(batch: &Batch<'_>, found: &Found) -> Result<()> {
    match &found.blob {
        Some(blob) => refs::release(batch, blob),
        None => Ok(()),
    }
}

fn grow(batch: &Batch<'_>, bucket: i64, growth: &Growth) -> Result<()> {
    if growth.keys == 0 && growth.bytes == 0 {
        return Ok(());
    }
    batch.execute(
        "UPDATE kv_bucket SET keys = keys + ?2, bytes = bytes + ?3 WHERE id = ?1",
        (bucket, growth.keys, growth.bytes),
    )?;
    Ok(())
}

/// What grows has to fit beside all that the app keeps; what shrinks is always taken.
fn check_room(batch: &Batch<'_>, bucket: &Bucket, growth: &Growth) -> Result<()> {
    if growth.keys <= 0 && growth.bytes <= 0 {
        return Ok(());
    }
    let held = batch.row(
        "SELECT coalesce(sum(keys), 0), coalesce(sum(bytes), 0) FROM kv_bucket WHERE namespace = ?1 AND app = ?2",
        (bucket.namespace.as_str(), bucket.app.as_str()),
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    )?;
    let (keys, bytes) = held.unwrap_or_default();
    let after = |held: i64, more: i64| u64::try_from(held.saturating_add(more)).unwrap_or(0);
    let (keys, bytes) = (after(keys, growth.keys), after(bytes, growth.bytes));
    let full = |held: String, most: String| {
        Err(Error::Full {
            app: bucket.app.to_string(),
            held,
            most,
        })
    };
    if growth.keys > 0 && keys > batch.limits.kv_keys {
        return full(
            format!("{keys} keys with this one"),
            batch.limits.kv_keys.to_string(),
        );
    }
    if growth.bytes > 0 && bytes > batch.limits.kv_bytes.0 {
        return full(
            format!("{} with this one", ByteSize(bytes)),
            batch.limits.kv_bytes.to_string(),
        );
    }
    Ok(())
}
