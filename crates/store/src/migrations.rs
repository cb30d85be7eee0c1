//! The schema, as a list that only grows: `user_version` is how many of it a database has. A database with more
//! than this binary knows is refused before anything is written.

use rusqlite::Connection;

use crate::error::{Error, Result};

/// Append-only: what is released is never edited; expand first, contract in a later release.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_kernel.sql"),
    include_str!("schema/0002_log.sql"),
    include_str!("schema/0003_calls.sql"),
    include_str!("schema/0004_apps.sql"),
    include_str!("schema/0005_usage.sql"),
    include_str!("schema/0006_instances.sql"),
    include_str!("schema/0007_kv.sql"),
    include_str!("schema/0008_reconcile.sql"),
    include_str!("schema/0009_delivery.sql"),
    include_str!("schema/0010_inbox.sql"),
    include_str!("schema/0011_jobs.sql"),
    include_str!("schema/0012_projections.sql"),
    include_str!("schema/0013_streams.sql"),
    include_str!("schema/0014_extensions.sql"),
    include_str!("schema/0015_retention.sql"),
    include_str!("schema/0016_intake.sql"),
];

/// Brings the database to this binary's schema.
///
/// # Errors
/// [`Error::TooNew`] when it is beyond it already.
pub(crate) fn migrate(connection: &mut Connection) -> Result<()> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).expect("fewer than four billion migrations");
    if found > known {
        return Err(Error::TooNew { found, known });
    }
    for (number, sql) in (1u32..).zip(MIGRATIONS).skip(found as usize) {
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_changes_nothing_and_newer_is_refused() {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrate(&mut connection).expect("migrates");
        migrate(&mut connection).expect("has nothing to do");
        connection
            .pragma_update(None, "user_version", 4000)
            .expect("updates");
        assert!(matches!(
            migrate(&mut connection),
            Err(Error::TooNew { found: 4000, .. })
        ));
    }
}
