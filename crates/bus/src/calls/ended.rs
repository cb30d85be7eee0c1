//! What is known of a call that has ended: all that a destination's record is made of.

use bytes::Bytes;
use model::{Destination, InvocationId, Time};

use crate::{
    Error,
    attempts::Made,
    calls::{CallState, CallStatus, Calls},
};

/// A call that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Where it stands, with its answer or its error.
    pub status: CallStatus,
    /// How it ended.
    pub condition: Condition,
    /// When.
    pub at: Time,
    /// Its input.
    pub input: Bytes,
    /// What a call that failed answered nevertheless: an error object, or nothing.
    pub failure: Bytes,
    /// Who gets its record.
    pub destination: Option<Destination>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It answered.
    Success,
    /// It failed as often as it may.
    RetriesExhausted,
    /// It became too old.
    EventAgeExceeded,
}

impl Calls {
    /// What is known of a call that has ended; `None` when it has not, or is not known any more.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn ended_call(&self, id: InvocationId) -> Result<Option<Ended>, Error> {
        let Some(call) = self.0.calls.get(id).await? else {
            return Ok(None);
        };
        let (Some(status), Some(at)) = (self.status(id).await?, call.finished_at) else {
            return Ok(None);
        };
        let success = status.state == CallState::Done;
        let made = Made {
            attempts: call.attempts,
            history: &call.history,
            born: call.accepted_at,
        };
        let condition = match (success, made.used_up(call.spec.retry)) {
            (true, _) => Condition::Success,
            (false, true) => Condition::RetriesExhausted,
            (false, false) => Condition::EventAgeExceeded,
        };
        let failure = match call.result_body {
            Some(payload) if !success => self.0.calls.body(payload).await?,
            _ => Bytes::new(),
        };
        Ok(Some(Ended {
            condition,
            at,
            input: self.0.calls.body(call.body).await?,
            failure,
            destination: call.spec.destinations.of(success).cloned(),
            status,
        }))
    }
}
