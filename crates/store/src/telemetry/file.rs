//! One `telemetry-<n>.db`: compressed blocks of spans and logs, with an index row per trace and block, and
//! hashed keys for logs.
//!
//! Its own journal, `synchronous=NORMAL`: after a power cut the last second may be missing, never the file.
//! A file is written by one [`File`] at a time and read by any number of others.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use model::{Time, TraceId};
use rusqlite::{Connection, OpenFlags, params};

use super::rows::{append, count, int, part, stored, time};

/// The schema that this binary writes.
const SCHEMA: i64 = 1;

/// `TNGL` in the header of the file, so that a foreign database is never written to.
const APPLICATION: i64 = 0x544e_474c;

const TABLES: &str = "
CREATE TABLE block(
  id INTEGER PRIMARY KEY,
  logs INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  bytes BLOB NOT NULL
) STRICT;
CREATE INDEX block_time ON block(logs, last);
CREATE TABLE part(
  trace BLOB NOT NULL,
  block INTEGER NOT NULL,
  start INTEGER NOT NULL,
  last INTEGER NOT NULL,
  spans INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  rank INTEGER NOT NULL,
  root_start INTEGER NOT NULL,
  root_last INTEGER NOT NULL,
  name TEXT NOT NULL,
  route TEXT NOT NULL,
  workloads TEXT NOT NULL,
  PRIMARY KEY(trace, block)
) STRICT, WITHOUT ROWID;
CREATE INDEX part_start ON part(start);
CREATE TABLE log_key(
  key INTEGER NOT NULL,
  block INTEGER NOT NULL,
  PRIMARY KEY(key, block)
) STRICT, WITHOUT ROWID;
";

/// Why a telemetry file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// SQLite refused: the disk is full, or the file is damaged.
    #[error("the telemetry file {path} failed")]
    Sqlite {
        /// Which file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// It is a database, but not one of these, or of another schema.
    #[error("{path} is not a telemetry file of schema {SCHEMA}")]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
}

/// How much a part knows about the trace as a whole: of several parts, the highest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Only spans below others.
    Inner,
    /// The local root of work that something earlier caused.
    Local,
    /// The root of the trace.
    Root,
}

/// What one block holds of one trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The trace.
    pub trace: TraceId,
    /// When its first span in this block began.
    pub start: Time,
    /// When its last span in this block ended.
    pub last: Time,
    /// How many spans.
    pub spans: u64,
    /// How many of them failed.
    pub errors: u64,
    /// What `name`, `route`, `root_start` and `root_last` speak of.
    pub rank: Rank,
    /// When the span that names this part began.
    pub root_start: Time,
    /// When it ended.
    pub root_last: Time,
    /// Its name.
    pub name: String,
    /// Its route, or empty.
    pub route: String,
    /// `|app/workload|app/workload|` of all its spans, sorted; `|` alone when there is none.
    pub workloads: String,
}

/// A block to append.
#[derive(Debug, Clone)]
pub struct Block {
    /// The earliest time in it.
    pub first: Time,
    /// The latest time in it.
    pub last: Time,
    /// Its bytes, compressed.
    pub bytes: Vec<u8>,
    /// What finds it.
    pub index: BlockIndex,
}

/// What finds a block.
#[derive(Debug, Clone)]
pub enum BlockIndex {
    /// Spans: a row per trace in it.
    Spans(Vec<Part>),
    /// Logs: hashes of the workloads, invocations and traces in it.
    Logs(Vec<u64>),
}

/// A block as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its number in the file; later blocks have higher ones.
    pub id: i64,
    /// Its bytes, compressed.
    pub bytes: Vec<u8>,
}

/// Which blocks of logs to read.
#[derive(Debug, Clone, Default)]
pub struct LogSelect {
    /// Hashes that must all be in the block; a hash may lie, so the records are filtered again.
    pub keys: Vec<u64>,
    /// Nothing that ended before this.
    pub since: Time,
    /// Only blocks with a lower number, for the next page.
    pub before: Option<i64>,
    /// How many at most.
    pub limit: usize,
}

/// An open telemetry file.
pub struct File {
    connection: Connection,
    path: PathBuf,
}

impl File {
    /// Opens `path` for appending; makes it when it is not there.
    ///
    /// # Errors
    /// [`FileError`] when the disk refuses or the file is not one of these.
    pub fn append_to(path: &Path) -> Result<Self, FileError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = Self::connect(path, flags)?;
        file.with(|connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")
        })?;
        if file.with(is_empty)? {
            file.with(make_tables)?;
        }
        file.checked()
    }

    /// Opens `path` for reading. A journal that a killed server left is read too.
    ///
    /// # Errors
    /// [`FileError`] when it is not there, damaged, or not one of these.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        // Not READ_ONLY: recovering a left journal needs the shared memory file to be written.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = Self::connect(path, flags)?;
        file.with(|connection| connection.pragma_update(None, "query_only", true))?;
        file.checked()
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, FileError> {
        let fault = |source| FileError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(fault)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    fn checked(self) -> Result<Self, FileError> {
        let marks = self.with(|connection| Ok((application(connection)?, version(connection)?)))?;
        if marks == (APPLICATION, SCHEMA) {
            Ok(self)
        } else {
            Err(FileError::Foreign { path: self.path })
        }
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, FileError> {
        act(&self.connection).map_err(|source| self.fault(source))
    }

    fn fault(&self, source: rusqlite::Error) -> FileError {
        FileError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }

    /// Appends `blocks`, all or none.
    ///
    /// # Errors
    /// [`FileError::Sqlite`] when the disk refuses.
    pub fn append(&mut self, blocks: &[Block]) -> Result<(), FileError> {
        let result = append(&mut self.connection, blocks);
        result.map_err(|source| self.fault(source))
    }

    /// Moves the journal into the file; nothing more is going to be appended.
    ///
    /// # Errors
    /// [`FileError::Sqlite`] when the disk refuses.
    pub fn seal(&self) -> Result<(), FileError> {
        self.with(|c| c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
    }

    /// The latest time in the file.
    ///
    /// # Errors
    /// [`FileError::Sqlite`] when the file is damaged.
    pub fn last(&self) -> Result<Option<Time>, FileError> {
        let sql = "SELECT max(last) FROM (SELECT max(last) AS last FROM block WHERE logs = 0
                   UNION ALL SELECT max(last) FROM block WHERE logs = 1)";
        let last: Option<i64> = self.with(|c| c.query_row(sql, [], |row| row.get(0)))?;
        Ok(last.map(time))
    }

    /// Bytes of its pages, those still in the journal included.
    ///
    /// # Errors
    /// [`FileError::Sqlite`] when the file is damaged.
    pub fn size(&self) -> Result<u64, FileError> {
        let sql = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        let size: i64 = self.with(|c| c.query_row(sql, [], |row| row.get(0)))?;
        Ok(size.unsigned_abs())
    }

    /// Parts that began after `since` and before `before`, the latest first.
    ///
    /// # Errors
    /// [`FileError::Sqlite`] when the file is damaged.
    pub fn parts(&self, since: Time, before: Time, limit: usize) -> Result<Vec<Part>, FileError> {
        let sql =
            "SELECT * FROM part WHERE start >= ?1 AND start < ?2 ORDER BY start DESC LIMIT ?3";
        self.with(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![int(since), int(before), count(limit)], part)?;
            rows.collect()
        })
    }

    /// What the file holds of `trace`, without its spans.
    ///
    /// # Errors
    /// [`FileError::Sqlite`] when the file is damaged.
    pub fn parts_of(&self, trace: TraceId) -> Result<Vec<Part>, FileError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM part WHERE trace = ?1")?;
            let rows = statement.query_map([trace.0.to_be_bytes()], part)?;
            rows.collect()
        })
    }

    /// The blocks that hold spans of `trace`.
    ///
    /// # Errors
    /// [`FileError::Sqlite`] when the file is damaged.
    pub fn spans_of(&self, trace: TraceId) -> Result<Vec<StoredBlock>, FileError> {
        let sql =
            "SELECT id, bytes FROM part JOIN block ON id = block WHERE trace = ?1 ORDER BY id";
        self.with(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([trace.0.to_be_bytes()], stored)?;
            rows.collect()
        })
    }

    /// Blocks of logs, the latest first.
    ///
    /// # Errors
    /// [`FileError::Sqlite`] when the file is damaged.
    pub fn logs(&self, select: &LogSelect) -> Result<Vec<StoredBlock>, FileError> {
        let mut sql =
            String::from("SELECT id, bytes FROM block WHERE logs = 1 AND last >= ?1 AND id < ?2");
        for key in &select.keys {
            let key = key.cast_signed();
            sql.push_str(&format!(
                " AND EXISTS (SELECT 1 FROM log_key WHERE key = {key} AND block = id)"
            ));
        }
        sql.push_str(" ORDER BY id DESC LIMIT ?3");
        let before = select.before.unwrap_or(i64::MAX);
        self.with(|connection| {
            let mut statement = connection.prepare(&sql)?;
            let bounds = params![int(select.since), before, count(select.limit)];
            let rows = statement.query_map(bounds, stored)?;
            rows.collect()
        })
    }
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |r| r.get(0))
}

fn make_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT;"
    ))
}

fn application(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "application_id", |row| row.get(0))
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part_at(trace: u128, start: u64) -> Part {
        Part {
            trace: TraceId(trace),
            start: Time(start),
            last: Time(start + 5),
            spans: 2,
            errors: 1,
            rank: Rank::Root,
            root_start: Time(start),
            root_last: Time(start + 4),
            name: "GET /".to_owned(),
            route: "/".to_owned(),
            workloads: "|shop/web|".to_owned(),
        }
    }

    fn spans(parts: Vec<Part>) -> Block {
        Block {
            first: parts.iter().map(|p| p.start).min().expect("not empty"),
            last: parts.iter().map(|p| p.last).max().expect("not empty"),
            bytes: vec![7; 100],
            index: BlockIndex::Spans(parts),
        }
    }

    #[test]
    fn what_was_appended_is_found_again_by_another_reader() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("telemetry-1.db");
        let mut file = File::append_to(&path).expect("opens");
        let parts = vec![part_at(1, 10), part_at(2, 20)];
        file.append(&[spans(parts.clone()), spans(vec![part_at(1, 30)])])
            .expect("appends");
        let reader = File::read(&path).expect("opens beside the writer");
        assert_eq!(reader.parts_of(TraceId(2)).expect("reads"), parts[1..]);
        assert_eq!(reader.spans_of(TraceId(1)).expect("reads").len(), 2);
        let starts = |since, before| -> Vec<u64> {
            let parts = reader.parts(Time(since), Time(before), 9).expect("reads");
            parts.iter().map(|p| p.start.0).collect()
        };
        assert_eq!(starts(0, 99), [30, 20, 10]);
        assert_eq!(starts(20, 30), [20]);
        assert_eq!(reader.last().expect("reads"), Some(Time(35)));
    }

    #[test]
    fn logs_are_found_by_all_keys_latest_first() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("telemetry-1.db");
        let mut file = File::append_to(&path).expect("opens");
        let block = |at: u64, keys: &[u64]| Block {
            first: Time(at),
            last: Time(at),
            bytes: vec![],
            index: BlockIndex::Logs(keys.to_vec()),
        };
        let blocks = [
            block(1, &[1, 2]),
            block(2, &[2, 2]),
            block(3, &[1, u64::MAX, 2]),
        ];
        file.append(&blocks).expect("appends");
        let ids = |keys: &[u64], since: u64, before, limit| -> Vec<i64> {
            let select = LogSelect {
                keys: keys.to_vec(),
                since: Time(since),
                before,
                limit,
            };
            file.logs(&select)
                .expect("reads")
                .iter()
                .map(|b| b.id)
                .collect()
        };
        assert_eq!(ids(&[], 0, None, 9), [3, 2, 1]);
        assert_eq!(ids(&[1, 2], 0, None, 9), [3, 1]);
        assert_eq!(ids(&[u64::MAX], 0, None, 9), [3]);
        assert_eq!(ids(&[2], 2, Some(3), 9), [2]);
        assert_eq!(ids(&[2], 0, None, 1), [3]);
    }

    #[test]
    fn foreign_files_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let text = dir.path().join("text.db");
        std::fs::write(&text, "not a database, but long enough to be looked at").expect("writes");
        assert!(matches!(File::read(&text), Err(FileError::Sqlite { .. })));
        let other = dir.path().join("other.db");
        let connection = Connection::open(&other).expect("opens");
        connection
            .execute_batch("CREATE TABLE theirs(x)")
            .expect("runs");
        assert!(matches!(
            File::append_to(&other),
            Err(FileError::Foreign { .. })
        ));
        assert!(matches!(
            File::read(&dir.path().join("none.db")),
            Err(FileError::Sqlite { .. })
        ));
    }
}
