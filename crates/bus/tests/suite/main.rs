//! The bus as its loop uses it: deliveries and calls end to end, over restarts, against a naive model, and with the
//! process killed at random moments.

#![allow(clippy::large_futures, reason = "tests hold buses by value")]

mod calls;
mod crash;
mod deliveries;
mod discards;
mod fixture;
mod jobs;
mod model_check;
mod projections;
mod pulls;
mod replays;
mod restarts;
mod terms;
