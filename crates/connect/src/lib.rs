//! Databases of the apps themselves, and brokers of others: the rows of an outbox, the changes of tables and the records of topics become
//! events that somebody above publishes; events become records.
//!
//! Knows no bus, no store and no HTTP: a [`Feed`] gives what is next, a loop above publishes it, and tells the feed what
//! became of it. A row is settled only after its event is durable, so that whatever is killed, it is seen again.
//!
//! Invariants: a feed never creates or alters a table of an app; its transactions are short; what it reads is bounded.

mod address;
mod batch;
pub mod capture;
mod error;
mod feed;
pub mod init;
pub mod kafka;
mod outbox;
mod postgres;
mod query;
mod refusals;
mod sqlite;
mod tls;

pub use address::{Address, Server};
pub use batch::{Backlog, Fate, Item, Relayed, Settled};
pub use capture::{Capture, TableStatus};
pub use error::Error;
pub use feed::{Feed, Options, What};
pub use query::{JsonRow, query};
pub use refusals::{Refusal, Refusals};
