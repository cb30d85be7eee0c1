//! Messages of Postgres's logical decoding by `pgoutput`, protocol version 1
//! (<https://www.postgresql.org/docs/15/protocol-logicalrep-message-formats.html>). Pure: bytes of one message in, the message
//! out, or why it is none.
//!
//! What is taken from the bytes is bounded by them: a count is never trusted before there is a byte for each.

/// The most columns that a table of Postgres has (`MaxTupleAttributeNumber`).
const MAX_COLUMNS: usize = 1664;
/// The most tables of one TRUNCATE.
const MAX_TABLES: usize = 65_536;

/// A place in the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    /// As Postgres writes it: `16/B374D848`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A transaction that was committed begins.
    Begin {
        /// Where its commit is.
        commit: Lsn,
        /// When it was committed: microseconds since 2000-01-01.
        at: i64,
        /// Its number.
        transaction: u32,
    },
    /// It ends.
    Commit {
        /// None are used.
        flags: u8,
        /// Where its commit is.
        commit: Lsn,
        /// Where the log goes on after it.
        end: Lsn,
        /// When it was committed.
        at: i64,
    },
    /// The transaction came from another server.
    Origin {
        /// Where its commit was there.
        commit: Lsn,
        /// Which server.
        name: String,
    },
    /// What a table looks like from here on.
    Relation(Relation),
    /// What a type is called.
    Type {
        /// Its number.
        id: u32,
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
    },
    /// A row is new.
    Insert {
        /// Its table.
        relation: u32,
        /// The row.
        new: Vec<Value>,
    },
    /// A row has changed.
    Update {
        /// Its table.
        relation: u32,
        /// The row as it was, as far as the table's replica identity has it.
        old: Option<Old>,
        /// The row.
        new: Vec<Value>,
    },
    /// A row is gone.
    Delete {
        /// Its table.
        relation: u32,
        /// The row as it was, likewise.
        old: Old,
    },
    /// Tables were emptied.
    Truncate {
        /// 1: cascade, 2: restart identity.
        options: u8,
        /// Which.
        relations: Vec<u32>,
    },
}

/// What a table looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its number.
    pub id: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `d`efault, `n`othing, `f`ull or `i`ndex.
    pub identity: u8,
    /// Its columns in order.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// 1: part of the key.
    pub flags: u8,
    /// Its name.
    pub name: String,
    /// The number of its type.
    pub kind: u32,
    /// The type's modifier.
    pub modifier: i32,
}

/// A row as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Old {
    /// Its key; other columns are null.
    Key(Vec<Value>),
    /// All of it.
    Row(Vec<Value>),
}

/// A column's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// A large value that is stored apart and has not changed: it is not in the message.
    Unchanged,
    /// As text.
    Text(String),
    /// As the type sends itself.
    Binary(Vec<u8>),
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They end too early.
    #[error("the message ends too early")]
    Short,
    /// Something stands after the end.
    #[error("{0} bytes stand after the message's end")]
    Long(usize),
    /// A letter that means nothing here.
    #[error("`{0}` is no {1}")]
    Unknown(char, &'static str),
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// More than there can be.
    #[error("{0} are more than there can be")]
    Count(usize),
}

/// Reads one message.
///
/// # Errors
/// [`Malformed`].
pub fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut rest = Rest(bytes);
    let message = rest.message()?;
    match rest.0.len() {
        0 => Ok(message),
        more => Err(Malformed::Long(more)),
    }
}

/// What is left to be read.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn message(&mut self) -> Result<Message, Malformed> {
        Ok(match self.byte()? {
            b'B' => Message::Begin {
                commit: self.lsn()?,
                at: i64::from_be_bytes(self.array()?),
                transaction: self.u32()?,
            },
            b'C' => Message::Commit {
                flags: self.byte()?,
                commit: self.lsn()?,
                end: self.lsn()?,
                at: i64::from_be_bytes(self.array()?),
            },
            b'O' => Message::Origin {
                commit: self.lsn()?,
                name: self.text()?,
            },
            b'R' => Message::Relation(self.relation()?),
            b'Y' => Message::Type {
                id: self.u32()?,
                schema: self.text()?,
                name: self.text()?,
            },
            b'I' => Message::Insert {
                relation: self.u32()?,
                new: self.new_row()?,
            },
            b'U' => self.update()?,
            b'D' => Message::Delete {
                relation: self.u32()?,
                old: match self.byte()? {
                    b'K' => Old::Key(self.row()?),
                    b'O' => Old::Row(self.row()?),
                    other => return Err(unknown(other, "old row")),
                },
            },
            b'T' => self.truncate()?,
            other => return Err(unknown(other, "message")),
        })
    }

    fn update(&mut self) -> Result<Message, Malformed> {
        let relation = self.u32()?;
        let old = match self.0.first() {
            Some(b'K') => {
                self.byte()?;
                Some(Old::Key(self.row()?))
            }
            Some(b'O') => {
                self.byte()?;
                Some(Old::Row(self.row()?))
            }
            _ => None,
        };
        let new = self.new_row()?;
        Ok(Message::Update { relation, old, new })
    }

    fn truncate(&mut self) -> Result<Message, Malformed> {
        let count = self.u32()? as usize;
        let options = self.byte()?;
        self.has(count, 4, MAX_TABLES)?;
        let relations = (0..count).map(|_| self.u32()).collect::<Result<_, _>>()?;
        Ok(Message::Truncate { options, relations })
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let (id, schema, name) = (self.u32()?, self.text()?, self.text()?);
        let identity = self.byte()?;
        let count = usize::from(u16::from_be_bytes(self.array()?));
        self.has(count, 10, MAX_COLUMNS)?;
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            columns.push(Column {
                flags: self.byte()?,
                name: self.text()?,
                kind: self.u32()?,
                modifier: i32::from_be_bytes(self.array()?),
            });
        }
        Ok(Relation {
            id,
            schema,
            name,
            identity,
            columns,
        })
    }

    fn new_row(&mut self) -> Result<Vec<Value>, Malformed> {
        match self.byte()? {
            b'N' => self.row(),
            other => Err(unknown(other, "new row")),
        }
    }

    fn row(&mut self) -> Result<Vec<Value>, Malformed> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        self.has(count, 1, MAX_COLUMNS)?;
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Result<Value, Malformed> {
        Ok(match self.byte()? {
            b'n' => Value::Null,
            b'u' => Value::Unchanged,
            b't' => {
                let bytes = self.counted()?;
                let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Text)?;
                Value::Text(text.to_owned())
            }
            b'b' => Value::Binary(self.counted()?.to_vec()),
            other => return Err(unknown(other, "value")),
        })
    }

    /// An error unless there may be `count` things of `least` bytes each.
    const fn has(&self, count: usize, least: usize, most: usize) -> Result<(), Malformed> {
        if count > most {
            return Err(Malformed::Count(count));
        }
        if self.0.len() < count * least {
            return Err(Malformed::Short);
        }
        Ok(())
    }

    fn counted(&mut self) -> Result<&'b [u8], Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A text that ends with a zero byte.
    fn text(&mut self) -> Result<String, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let bytes = self.take(end.ok_or(Malformed::Short)?)?;
        self.byte()?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Text)?;
        Ok(text.to_owned())
    }

    fn lsn(&mut self) -> Result<Lsn, Malformed> {
        Ok(Lsn(u64::from_be_bytes(self.array()?)))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn unknown(letter: u8, what: &'static str) -> Malformed {
    Malformed::Unknown(letter.into(), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_no_message() {
        let mut insert = b"I\0\0\0\x07N\0\x03t\0\0\0\x02hiun".to_vec();
        let whole = Message::Insert {
            relation: 7,
            new: vec![Value::Text("hi".into()), Value::Unchanged, Value::Null],
        };
        assert_eq!(decode(&insert), Ok(whole));
        for end in 0..insert.len() {
            assert_eq!(decode(&insert[..end]), Err(Malformed::Short), "{end}");
        }
        insert.push(0);
        assert_eq!(decode(&insert), Err(Malformed::Long(1)));
    }

    #[test]
    fn counts_are_not_trusted() {
        assert_eq!(
            decode(b"I\0\0\0\x07N\xff\xff"),
            Err(Malformed::Count(65_535))
        );
        assert_eq!(decode(b"I\0\0\0\x07N\x06\x00"), Err(Malformed::Short));
        assert_eq!(
            decode(b"T\xff\xff\xff\xff\0"),
            Err(Malformed::Count(u32::MAX as usize))
        );
        assert_eq!(
            decode(b"I\0\0\0\x07N\0\x01t\xff\xff\xff\xffx"),
            Err(Malformed::Short)
        );
        assert_eq!(decode(b"Z"), Err(Malformed::Unknown('Z', "message")));
    }

    #[test]
    fn places_are_written_as_postgres_does() {
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn(0).to_string(), "0/0");
    }
}
