//! How calls end, and what their ends cause.

use std::time::Duration;

use bytes::Bytes;
use model::{Error as Fault, Time};
use serde_json::Value;
use store::{
    calls::{CallResult as Stored, Consequence, State, Waiting},
    format,
    log::Attempt,
};

use crate::{
    Error,
    attempts::{Made, longer},
    calls::{CALL_DESTINED, CALL_ENDED, CallAttempt, CallResult, CallSettled, Calls, Shared},
};

/// How long to wait when the store takes no more for now.
const BUSY: Duration = Duration::from_millis(20);
/// How long to wait when the disk refuses.
const REFUSED: Duration = Duration::from_secs(1);

/// An end, as it is written.
struct End {
    state: State,
    result: Stored,
    body: Vec<u8>,
    history: Vec<Attempt>,
}

impl Calls {
    /// Says how an attempt ended; durable when this returns.
    ///
    /// # Errors
    /// Those of the store, when it is closed or another node has the call now: it will be tried again.
    pub async fn settle(
        &self,
        mut attempt: CallAttempt,
        settled: CallSettled,
    ) -> Result<(), Error> {
        let shared = &self.0;
        let now = shared.clock.now();
        let result = match settled {
            CallSettled::Done(result) => shared.end(&attempt, done(&attempt, result)).await,
            CallSettled::Failed(error) => {
                let history = attempt.history.clone();
                shared
                    .end(&attempt, failed(error, Bytes::new(), history))
                    .await
            }
            CallSettled::Retry(error, body) => shared.failed(&attempt, error, body, now).await,
        };
        attempt.in_flight.settled = result.is_ok();
        result
    }
}

fn done(attempt: &CallAttempt, result: CallResult) -> End {
    End {
        state: State::Done,
        result: Stored {
            status: result.status,
            head: result.head,
            error: None,
        },
        body: result.body.to_vec(),
        history: attempt.history.clone(),
    }
}

fn failed(error: Fault, body: Bytes, history: Vec<Attempt>) -> End {
    End {
        state: State::Failed,
        result: Stored {
            status: error.category.http_status(),
            head: Value::Null,
            error: Some(error),
        },
        body: body.to_vec(),
        history,
    }
}

impl Shared {
    async fn failed(
        &self,
        attempt: &CallAttempt,
        error: Fault,
        body: Bytes,
        now: Time,
    ) -> Result<(), Error> {
        let history = longer(&attempt.history, now, &error);
        let random = u16::try_from(self.ids.random() & 0xffff).expect("16 bits");
        let made = Made {
            attempts: attempt.attempt,
            history: &history,
            born: attempt.accepted_at,
        };
        match made.next_due(attempt.retry, now, random, &error) {
            None => self.end(attempt, failed(error, body, history)).await,
            Some(due) => self.retry(attempt, due, history).await,
        }
    }

    async fn retry(
        &self,
        attempt: &CallAttempt,
        due: Time,
        history: Vec<Attempt>,
    ) -> Result<(), Error> {
        let owned = self.calls.owner(attempt.id)?;
        loop {
            let retry = self
                .calls
                .retry(owned, attempt.id, due, attempt.attempt, history.clone());
            let written = match retry {
                Ok(pending) => pending.done().await.map(|_| ()),
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => break,
                Err(error) => self.wait_out(error).await?,
            }
        }
        let (now, id) = (self.clock.now(), attempt.id);
        let wake = self
            .groups
            .lock()
            .waits(&attempt.target, Waiting { due, id }, now);
        self.wake(wake);
        Ok(())
    }

    async fn end(&self, attempt: &CallAttempt, end: End) -> Result<(), Error> {
        let owned = self.calls.owner(attempt.id)?;
        let consequence = |kind| Consequence {
            kind,
            key: attempt.id.to_string(),
            payload: format::encode(&Value::Null),
        };
        let success = end.state == State::Done;
        let destined = attempt.destinations.of(success).is_some();
        let mut consequences = vec![consequence(CALL_ENDED)];
        consequences.extend(destined.then(|| consequence(CALL_DESTINED)));
        loop {
            let written = self.calls.finish(
                owned,
                attempt.id,
                end.state,
                &end.result,
                end.body.clone(),
                attempt.attempt,
                &end.history,
                consequences.clone(),
            );
            match written.await {
                // Not found: an earlier try of this loop was committed, and its answer lost.
                Ok(()) | Err(store::Error::NotFound(_)) => break,
                Err(error) => self.wait_out(error).await?,
            }
        }
        self.groups.lock().ended(&attempt.target, attempt.id);
        self.ended.notify_one();
        if destined {
            self.destined.notify_one();
        }
        Ok(())
    }

    /// A full queue and a refusing disk are waited out; anything else is for the caller.
    async fn wait_out(&self, error: store::Error) -> Result<(), Error> {
        match error {
            store::Error::Busy => self.clock.sleep(BUSY).await,
            store::Error::Sql(_) | store::Error::Io { .. } => {
                tracing::error!(%error, "the end of a call cannot be written; trying again");
                self.clock.sleep(REFUSED).await;
            }
            other => return Err(other.into()),
        }
        Ok(())
    }
}
