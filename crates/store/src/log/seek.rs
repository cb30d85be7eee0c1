//! Where in a log a time is: found by halves over the positions, so that a look costs the same in a log of any length.
//!
//! Positions are in the order of commits, and `at` is the clock at a commit: it ascends with them, except where the clock
//! was set back.

use model::{Namespace, Position, Time};
use rusqlite::{Connection, OptionalExtension};

use crate::{
    error::Result,
    log::{Log, position_of, read, row_id},
};

impl Log {
    /// A position from `after` to `through` such that the first event behind it, up to `through`, was published at `at`
    /// or later, and the last one up to it before `at`, where there are such events; `after` when that is behind
    /// `through`. Where the clock was never set back there is one such place, and all events of `after` to it are older.
    /// Where it was, by `d` in all, no event up to it is younger than `at + d`, and none behind it older than `at - d`.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn seek(
        &self,
        namespace: &Namespace,
        after: Position,
        through: Position,
        at: Time,
    ) -> Result<Position> {
        let namespace = namespace.clone();
        self.kernel
            .read(
                move |connection| match read::log_id(connection, &namespace)? {
                    Some(log) => seek(connection, log, (after, through), at),
                    None => Ok(after),
                },
            )
            .await
    }
}

fn seek(
    connection: &Connection,
    log: i64,
    (after, through): (Position, Position),
    at: Time,
) -> Result<Position> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at FROM event WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1",
    )?;
    // The last event up to `older` is older; the first one from `from` on is not. What retention removed leaves gaps.
    let (mut older, mut from) = (after.0, through.0.saturating_add(1));
    while older + 1 < from {
        let middle = older + (from - older) / 2;
        let between = (
            row_id(log, Position(middle)),
            row_id(log, Position(from - 1)),
        );
        let found = statement.query_row(between, |row| Ok((row.get(0)?, row.get(1).map(Time)?)));
        match found.optional()? {
            Some((id, published)) if published < at => older = position_of(id).0,
            _ => from = middle,
        }
    }
    Ok(Position(older))
}
