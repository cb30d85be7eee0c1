//! Databases of the apps themselves: the rows of an outbox become events that somebody above publishes.
//!
//! Knows no bus, no store and no HTTP: a [`Feed`] gives what is next, a loop above publishes it, and tells the feed what
//! became of it. A row is settled only after its event is durable, so that whatever is killed, it is seen again.
//!
//! Invariants: a feed never creates or alters a table of an app; its transactions are short; what it reads is bounded.

mod address;
mod batch;
mod error;
mod feed;
pub mod init;
mod outbox;
mod postgres;
mod refusals;
mod sqlite;
mod tls;

pub use address::Address;
pub use batch::{Backlog, Fate, Item, Relayed, Settled};
pub use error::Error;
pub use feed::{Feed, Options};
pub use refusals::{Refusal, Refusals};
