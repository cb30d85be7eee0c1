//! The suites of the store: one per domain, each with one node and with two nodes on one database; what survives an
//! unplugged disk; what a node may write that lost its shard.

#![allow(clippy::large_futures, reason = "tests hold stores by value")]

mod apps;
mod blobs;
mod calls;
mod fixture;
mod inbox;
mod intake;
mod kernel;
mod kv;
mod log;
mod reconcile;
mod retention;
mod shards;
mod streams;
mod unplug;
