//! Durable asynchronous invocations: accepted and fsynced, then tried until they are done or given up. Like deliveries,
//! they are named when ready, taken with a permit in hand, and settled; their results are kept for a day.

mod accept;
mod ended;
mod groups;
mod settle;
mod take;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
pub use ended::{Condition, Ended};
use model::{
    Cause, Clock, Destinations, Error as Fault, Ids, InvocationId, RetryPolicy, Target, Time,
    Trigger,
};
use parking_lot::Mutex;
use serde::Serialize;
use store::{Store, log::Attempt};
use tokio::sync::Notify;

use crate::{Error, calls::groups::Groups, open::careful_until};

/// The outbox's kind under which the end of a call is noted, in the commit that ends it; its key is the call's id.
pub const CALL_ENDED: &str = "call.ended";
/// The outbox's kind of the record that a destination is to get, in the commit that ends the call; its key is the call's
/// id.
pub const CALL_DESTINED: &str = "call.destined";
/// How long results are kept.
pub const KEPT: Duration = Duration::from_secs(86_400);

/// Asynchronous invocations. Cheap to clone.
#[derive(Clone)]
pub struct Calls(Arc<Shared>);

struct Shared {
    store: Store,
    calls: store::calls::Calls,
    clock: Clock,
    ids: Ids,
    groups: Mutex<Groups>,
    work: Notify,
    ended: Notify,
    destined: Notify,
    careful_until: Time,
}

/// What is committed.
#[derive(Debug, Clone)]
pub struct NewCall {
    /// Its id; accepting the same again changes nothing.
    pub id: InvocationId,
    /// Whom to call.
    pub target: Target,
    /// What asked for it.
    pub trigger: Trigger,
    /// On whose behalf, in which trace.
    pub cause: Cause,
    /// Its input; what it means is the caller's.
    pub input: Bytes,
    /// Where the result is to be POSTed.
    pub callback: Option<String>,
    /// When to try again, and when to stop.
    pub retry: RetryPolicy,
    /// Who learns how it ended.
    pub destinations: Destinations,
}

/// One attempt to make. It must be settled; one that is dropped instead is tried again.
pub struct CallAttempt {
    /// Its id.
    pub id: InvocationId,
    /// Whom to call.
    pub target: Target,
    /// What asked for it.
    pub trigger: Trigger,
    /// On whose behalf, in which trace.
    pub cause: Cause,
    /// Its input.
    pub input: Bytes,
    /// Where the result is to be POSTed.
    pub callback: Option<String>,
    /// 1 for the first try.
    pub attempt: u32,
    /// When it was accepted.
    pub accepted_at: Time,
    retry: RetryPolicy,
    destinations: Destinations,
    history: Vec<Attempt>,
    in_flight: take::InFlight,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum CallSettled {
    /// It answered.
    Done(CallResult),
    /// It failed: to be tried again as its policy says, or failed for good when that says no more. With what it answered
    /// nevertheless, which is kept when there is no other answer.
    Retry(Fault, Bytes),
    /// It failed for good.
    Failed(Fault),
}

/// The answer that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    /// HTTP status, 200 where there is none.
    pub status: u16,
    /// What else belongs to it; what it means is the caller's.
    pub head: serde_json::Value,
    /// Its body.
    pub body: Bytes,
}

/// Where an invocation stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallStatus {
    /// On whose behalf, in which trace.
    #[serde(skip)]
    pub cause: Cause,
    /// Where the result is to be POSTed.
    #[serde(skip)]
    pub callback: Option<String>,
    /// Its id.
    pub id: InvocationId,
    /// Whom it calls.
    pub target: Target,
    /// Where it stands.
    pub state: CallState,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was accepted.
    pub accepted_at: Time,
    /// Why it failed, or its last attempt did.
    pub error: Option<Fault>,
    /// Its answer.
    #[serde(skip)]
    pub result: Option<CallResult>,
}

/// One word for where an invocation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// It waits for its next attempt.
    Waiting,
    /// An attempt is under way.
    Running,
    /// It answered.
    Done,
    /// It was given up.
    Failed,
}

impl Calls {
    pub(crate) async fn open(store: &Store, clock: Clock, ids: Ids) -> Result<Self, Error> {
        let calls = store.calls();
        calls.recover().await?;
        let shared = Arc::new(Shared {
            careful_until: careful_until(store, &clock),
            store: store.clone(),
            calls,
            clock,
            ids,
            groups: Mutex::default(),
            work: Notify::new(),
            ended: Notify::new(),
            destined: Notify::new(),
        });
        for target in shared.calls.targets().await? {
            shared.load(&target).await?;
        }
        Ok(Self(shared))
    }

    /// How many wait in memory, and how many run.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        self.0.groups.lock().counts()
    }

    /// Waits until a call has ended since the last time: there is something in the outbox.
    pub async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// Waits until a call has ended whose destination is to get a record.
    pub async fn destined(&self) {
        self.0.destined.notified().await;
    }

    /// Where an invocation stands; `None` when it is not known, or not any more.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn status(&self, id: InvocationId) -> Result<Option<CallStatus>, Error> {
        let Some(call) = self.0.calls.get(id).await? else {
            return Ok(None);
        };
        let running = self.0.groups.lock().is_running(&call.spec.target, id);
        let (mut state, last) = (CallState::Waiting, call.history.last());
        if running {
            state = CallState::Running;
        }
        let mut error = last.map(|attempt| attempt.error.clone());
        let mut answer = None;
        if let Some(result) = call.result {
            error = result.error;
            state = CallState::Failed;
            if call.state == store::calls::State::Done {
                state = CallState::Done;
                let body = match call.result_body {
                    Some(payload) => self.0.calls.body(payload).await?,
                    None => Bytes::new(),
                };
                let (status, head) = (result.status, result.head);
                answer = Some(CallResult { status, head, body });
            }
        }
        Ok(Some(CallStatus {
            cause: call.spec.cause,
            callback: call.spec.callback,
            id,
            target: call.spec.target,
            state,
            attempts: call.attempts,
            accepted_at: call.accepted_at,
            error,
            result: answer,
        }))
    }
}
