//! What to deliver next, and what became of it. Knows the log, subscriptions, retries, dead letters and asynchronous
//! invocations; knows no runtime and calls nobody: a loop above asks what is ready, invokes, and says how it ended.
//!
//! Invariants: what `publish` or `accept` acknowledged is fsynced; it is delivered at least once, with the same
//! idempotency key on every attempt, until it is done or a dead letter; memory is bounded, the rest is in the log.

mod attempts;
mod bus;
pub mod calls;
mod dead_letters;
mod delivery;
mod error;
mod fill;
mod follow;
mod jobs;
mod lanes;
mod look;
mod matching;
mod open;
mod pause;
mod plain;
mod projections;
mod publish;
mod pull;
mod range;
mod ready;
mod serial;
mod settle;
mod state;
mod stats;
mod take;
mod terms;
mod waits;

pub use attempts::FORGIVEN;
pub use bus::Bus;
pub use calls::{
    CALL_DESTINED, CALL_ENDED, CallAttempt, CallResult, CallSettled, CallState, CallStatus, Calls,
    Condition, Ended, NewCall,
};
pub use dead_letters::{DeadLetter, DeadLetterFilter};
pub use delivery::{Delivery, Settled};
pub use error::Error;
pub use jobs::Replay;
pub use projections::{Generation, Projection, State as GenerationState};
pub use publish::Published;
pub use stats::SubscriptionStats;
pub use store::log::{Attempt, Job, LogState, Logged};
pub use waits::Paused;
