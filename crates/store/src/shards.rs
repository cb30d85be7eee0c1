//! Who owns which 1/256th of the work. A node owns a shard by (node, boot, epoch, until); taking it over raises the
//! epoch, and every write of an owner names the epoch that it knows, so that one who lost it without noticing is refused.

use std::{sync::Arc, time::Duration};

use model::Time;
use parking_lot::RwLock;

use crate::{
    batch::Batch,
    command,
    error::{Error, Result},
    kernel::Kernel,
};

/// How many shards there are.
pub const SHARDS: u16 = 256;
/// The lease of a node that nobody can share a folder with: for ever.
const FOREVER: Time = Time(i64::MAX as u64);

/// One 1/256th of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

/// Raised each time a shard changes hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// The right to write for a shard: valid until another node takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owned {
    /// Which shard.
    pub shard: Shard,
    /// The epoch in which this node took it.
    pub epoch: Epoch,
}

/// Who a store is among the nodes of its database.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) node: String,
    pub(crate) boot: u64,
}

impl Shard {
    /// The shard that the thing with these names belongs to: stable for ever.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        // FNV-1a: spread is all that is asked of it, and it is the same in every build.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for part in parts {
            for byte in part.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        Self(u16::from((hash ^ (hash >> 32)).to_le_bytes()[0]))
    }
}

/// Verbs of shards.
pub enum Command {
    /// Takes what is free, expired, or was this node's earlier boot's.
    Acquire {
        /// How long the lease holds; `None`: for ever, because a lock proves that there is no other node.
        lease: Option<Duration>,
    },
    /// Makes the leases of what is owned last longer.
    Renew {
        /// From now.
        lease: Duration,
    },
    /// Gives back all that is owned.
    Release,
}

/// Answers of shards.
#[derive(Debug)]
pub enum Reply {
    /// All that this node owns now.
    Owned(Vec<Owned>),
}

impl Command {
    pub(crate) fn apply(&self, batch: &mut Batch<'_>) -> Result<command::Reply> {
        let me = batch.identity;
        match self {
            Self::Acquire { lease } => {
                let until = lease.map_or(FOREVER, |lease| batch.now + lease);
                batch.execute(
                    "UPDATE shard SET node = ?1, boot = ?2, epoch = epoch + 1, until = ?3
                     WHERE node IS NULL OR until < ?4 OR (node = ?1 AND boot <> ?2)",
                    (&me.node, me.boot, until.0, batch.now.0),
                )?;
            }
            Self::Renew { lease } => {
                batch.execute(
                    "UPDATE shard SET until = ?3 WHERE node = ?1 AND boot = ?2",
                    (&me.node, me.boot, (batch.now + *lease).0),
                )?;
            }
            Self::Release => {
                batch.execute(
                    "UPDATE shard SET node = NULL, until = 0 WHERE node = ?1 AND boot = ?2",
                    (&me.node, me.boot),
                )?;
            }
        }
        batch.owners_changed();
        Ok(command::Reply::Shards(Reply::Owned(owned(batch)?)))
    }
}

fn owned(batch: &Batch<'_>) -> Result<Vec<Owned>> {
    let mut statement = batch
        .prepare("SELECT shard, epoch FROM shard WHERE node = ?1 AND boot = ?2 ORDER BY shard")?;
    let rows = statement.query_map((&batch.identity.node, batch.identity.boot), |row| {
        Ok(Owned {
            shard: Shard(row.get(0)?),
            epoch: Epoch(row.get(1)?),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// What this node believes to own. Cheap to clone.
#[derive(Clone)]
pub struct Shards {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) owned: Arc<RwLock<Vec<Owned>>>,
}

impl Shards {
    /// The right to write for `shard`, as far as this node knows.
    ///
    /// # Errors
    /// [`Error::NotOwner`] when it knows that it has none.
    pub fn owner(&self, shard: Shard) -> Result<Owned> {
        let owned = self.owned.read();
        owned
            .binary_search_by_key(&shard, |o| o.shard)
            .map(|at| owned[at])
            .map_err(|_| Error::NotOwner(shard.0))
    }

    /// All that this node believes to own.
    #[must_use]
    pub fn owned(&self) -> Vec<Owned> {
        self.owned.read().clone()
    }

    /// Takes every shard that is free, whose lease is over, or that an earlier boot of this node held.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn acquire(&self, lease: Duration) -> Result<Vec<Owned>> {
        self.run(Command::Acquire { lease: Some(lease) }).await
    }

    /// Makes the leases last `lease` from now; what was lost meanwhile is missing in the answer.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn renew(&self, lease: Duration) -> Result<Vec<Owned>> {
        self.run(Command::Renew { lease }).await
    }

    /// Gives everything back, so that another node need not wait for the leases.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn release(&self) -> Result<Vec<Owned>> {
        self.run(Command::Release).await
    }

    async fn run(&self, command: Command) -> Result<Vec<Owned>> {
        let reply = self.kernel.run(command::Command::Shards(command)).await?;
        let command::Reply::Shards(Reply::Owned(owned)) = reply else {
            return Err(Error::Corrupt("reply"));
        };
        self.owned.write().clone_from(&owned);
        Ok(owned)
    }
}

/// Takes all shards at the start, before the writer runs, and returns this boot's number.
pub(crate) fn start(
    connection: &rusqlite::Connection,
    node: &str,
    alone: bool,
) -> Result<(Identity, Vec<Owned>, bool)> {
    let meta = |key: &str| -> Result<u64> {
        use rusqlite::OptionalExtension;
        let value = connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get(0))
            .optional()?;
        Ok(value.unwrap_or(0))
    };
    let boot = meta("boot")? + 1;
    let was_clean = boot == 1 || meta("clean")? == 1;
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('boot', ?1), ('clean', 0)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [boot],
    )?;
    if alone {
        connection.execute(
            "UPDATE shard SET node = ?1, boot = ?2, epoch = epoch + 1, until = ?3",
            (node, boot, FOREVER.0),
        )?;
    }
    let mut statement = connection
        .prepare("SELECT shard, epoch FROM shard WHERE node = ?1 AND boot = ?2 ORDER BY shard")?;
    let owned = statement
        .query_map((node, boot), |row| {
            Ok(Owned {
                shard: Shard(row.get(0)?),
                epoch: Epoch(row.get(1)?),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let identity = Identity {
        node: node.to_owned(),
        boot,
    };
    Ok((identity, owned, was_clean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_spread_over_the_shards() {
        let used: std::collections::HashSet<_> = (0..4000)
            .map(|i| Shard::of(&["shop", &i.to_string()]))
            .collect();
        assert!(used.len() > 250, "{}", used.len());
        assert_ne!(Shard::of(&["ab", "c"]), Shard::of(&["a", "bc"]));
    }
}
