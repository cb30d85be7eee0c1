//! A connection to a SQLite file that belongs to an app: never created, never changed in its settings, and given up when
//! another file has taken its name.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{ErrorCode, OpenFlags};

use crate::{Error, outbox::missing};

/// How long a statement waits while the app writes.
const BUSY: Duration = Duration::from_secs(2);

/// A connection.
pub(crate) struct Connection {
    db: rusqlite::Connection,
    file: PathBuf,
    identity: Option<(u64, u64)>,
    /// Locked while this is the one relay of a table.
    hold: Option<File>,
}

impl Connection {
    pub(crate) fn open(file: &Path) -> Result<Self, Error> {
        let failed = |error| told(file, &error);
        // Not there is not there yet: an app makes its file when it first starts.
        if !file.is_file() {
            return Err(Error::Unreachable {
                place: file.display().to_string(),
                why: "there is no such file".to_owned(),
            });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = rusqlite::Connection::open_with_flags(file, flags).map_err(failed)?;
        db.busy_timeout(BUSY).map_err(failed)?;
        // A row that is settled and not synced is relayed again with the same id: nothing waits for a sync of ours.
        db.pragma_update(None, "synchronous", "NORMAL")
            .map_err(failed)?;
        // The app's schema may call functions of its own; ours never runs code that a file brings.
        db.pragma_update(None, "trusted_schema", false)
            .map_err(failed)?;
        Ok(Self {
            db,
            identity: identity(file),
            file: file.to_owned(),
            hold: None,
        })
    }

    pub(crate) fn run<T>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        work(&self.db).map_err(|error| told(&self.file, &error))
    }

    pub(crate) fn run_mut<T>(
        &mut self,
        work: impl FnOnce(&mut rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        work(&mut self.db).map_err(|error| told(&self.file, &error))
    }

    /// An error unless the file is the one that was opened: an app that replaces its file leaves us with the old one.
    pub(crate) fn still_there(&self) -> Result<(), Error> {
        if identity(&self.file) == self.identity {
            return Ok(());
        }
        Err(Error::Unreachable {
            place: self.file.display().to_string(),
            why: "the file was replaced or removed".to_owned(),
        })
    }

    /// An error unless `table` has the columns of an outbox.
    pub(crate) fn check_outbox(&mut self, table: &str) -> Result<(), Error> {
        let found: Vec<String> = self.run(|db| {
            let mut statement = db.prepare("SELECT name FROM pragma_table_info(?1)")?;
            let names = statement.query_map([table], |row| row.get(0))?;
            names.collect()
        })?;
        let missing = missing(&found);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::NoOutbox {
            place: self.file.display().to_string(),
            table: table.to_owned(),
            why: missing,
            engine: "sqlite",
        })
    }

    /// Makes this the one relay of `table`, for as long as it is open. The lock is a file beside the database: locks inside of it
    /// are the app's.
    pub(crate) fn hold(&mut self, table: &str) -> Result<(), Error> {
        let mut name = self.file.clone().into_os_string();
        name.push(format!("-{table}.lock"));
        let place = self.file.display().to_string();
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&name);
        let lock = lock.map_err(|error| Error::Forbidden {
            place: place.clone(),
            why: format!("{}: {error}", Path::new(&name).display()),
        })?;
        match lock.try_lock() {
            Ok(()) => {
                self.hold = Some(lock);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(Error::Held {
                place,
                table: table.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(Error::Failed {
                place,
                why: error.to_string(),
            }),
        }
    }
}

#[cfg(unix)]
fn identity(file: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let data = fs::metadata(file).ok()?;
    Some((data.dev(), data.ino()))
}

#[cfg(not(unix))]
fn identity(file: &Path) -> Option<(u64, u64)> {
    fs::metadata(file).ok().map(|_| (0, 0))
}

fn told(file: &Path, error: &rusqlite::Error) -> Error {
    let place = file.display().to_string();
    let why = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase) => Error::Unreachable { place, why },
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthorizationForStatementDenied,
        ) => Error::Forbidden { place, why },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Failed {
            place,
            why: format!("a writer has held it for {} s", BUSY.as_secs()),
        },
        _ => Error::Failed { place, why },
    }
}
