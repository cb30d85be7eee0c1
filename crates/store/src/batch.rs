//! One transaction of the writer: the connection inside it, and what its commands put together before the commit
//! (so that ten cursors of one subscription are one write) and cause after it (so that nothing is seen too early).

use std::collections::HashMap;

use model::Time;
use rusqlite::{CachedStatement, Connection, Params};

use crate::{
    blobs,
    error::{Error, Result},
    log,
    shards::{Epoch, Identity, Shard},
};

/// A transaction in the making.
pub(crate) struct Batch<'c> {
    /// The connection, inside the transaction.
    pub(crate) connection: &'c Connection,
    /// The store's clock when the batch began.
    pub(crate) now: Time,
    /// Who writes.
    pub(crate) identity: &'c Identity,
    /// Limits of the store.
    pub(crate) limits: &'c crate::StoreLimits,
    /// What of the log is put together over the batch.
    pub(crate) log: log::Pending,
    /// Who knows where subscriptions stand.
    pub(crate) cursors: Option<log::Source>,
    /// The blob store, for removals.
    pub(crate) blobs: &'c blobs::Shared,
    owned: HashMap<Shard, Option<Epoch>>,
}

impl<'c> Batch<'c> {
    pub(crate) fn new(
        connection: &'c Connection,
        now: Time,
        identity: &'c Identity,
        limits: &'c crate::StoreLimits,
        blobs: &'c blobs::Shared,
        cursors: Option<log::Source>,
    ) -> Self {
        Self {
            connection,
            now,
            identity,
            limits,
            blobs,
            cursors,
            log: log::Pending::default(),
            owned: HashMap::new(),
        }
    }

    /// A statement, prepared once per connection.
    pub(crate) fn prepare(&self, sql: &str) -> Result<CachedStatement<'c>> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Runs a statement that returns no rows.
    pub(crate) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        Ok(self.prepare(sql)?.execute(params)?)
    }

    /// The first row of a query, if there is one.
    pub(crate) fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        use rusqlite::OptionalExtension;
        Ok(self.prepare(sql)?.query_row(params, read).optional()?)
    }

    /// The id that the last insert made.
    pub(crate) fn last_id(&self) -> i64 {
        self.connection.last_insert_rowid()
    }

    /// Checks that this node still owns `shard` at `epoch`; one read per shard and batch.
    ///
    /// # Errors
    /// [`Error::NotOwner`]: the write must not happen.
    pub(crate) fn check_owner(&mut self, shard: Shard, epoch: Epoch) -> Result<()> {
        let owned = match self.owned.get(&shard) {
            Some(owned) => *owned,
            None => {
                let owned = self.row(
                    "SELECT epoch FROM shard WHERE shard = ?1 AND node = ?2 AND boot = ?3",
                    (shard.0, &self.identity.node, self.identity.boot),
                    |row| row.get(0).map(Epoch),
                )?;
                self.owned.insert(shard, owned);
                owned
            }
        };
        if owned == Some(epoch) {
            Ok(())
        } else {
            Err(Error::NotOwner(shard.0))
        }
    }

    /// Forgets what was read about owners, after they changed.
    pub(crate) fn owners_changed(&mut self) {
        self.owned.clear();
    }

    /// Puts work for another domain beside this one's change.
    pub(crate) fn outbox(&self, kind: &str, shard: Shard, key: &str, payload: &[u8]) -> Result<()> {
        self.execute(
            "INSERT INTO outbox (kind, shard, key, payload, due) VALUES (?1, ?2, ?3, ?4, ?5)",
            (kind, shard.0, key, payload, self.now.0),
        )?;
        Ok(())
    }
}
