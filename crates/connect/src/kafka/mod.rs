//! Kafka as others run it: records of topics as events, and events as records. A pure-Rust client, without consumer
//! groups: how far a topic was read is for the caller to keep, who alone knows what is durable.

mod binding;
mod cluster;
mod error;
#[doc(hidden)]
pub mod law;
mod partitioner;

pub use binding::{Message, Place, Read, Told, read, write};
pub use cluster::{Cluster, Fetched, Login, Options, Partition, Start, Trust};
pub use error::Error;
pub use partitioner::partition_of;
