//! One invocation on an instance, from the first byte sent to the answer.
//!
//! A caller that goes away does not stop the handler, as on AWS: what is left of the run goes on in a task of its
//! own until the handler answers or its timeout kills the instance.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use model::{Clock, Invocation};
use tokio::sync::oneshot;

use super::{
    conn::{Conn, Outgoing},
    instance::{Answer, Instance, Work},
    protocol::{self, Metadata},
};

/// A run that is under way.
pub(crate) struct Run(Option<Inner>);

struct Inner {
    instance: Arc<Instance>,
    clock: Clock,
    conn: Arc<Conn>,
    outgoing: Outgoing,
    answer: oneshot::Receiver<Answer>,
    /// When the handler's own timeout ends the instance.
    kill_at: Instant,
}

impl Run {
    /// Gives `instance` its work; `None` when it does not ask for any.
    pub(crate) fn begin(
        instance: Arc<Instance>,
        clock: &Clock,
        invocation: &Arc<Invocation>,
        metadata: &Metadata,
        payload: Bytes,
        kill_at: Instant,
    ) -> Option<Self> {
        let (sender, answer) = oneshot::channel();
        let work = Work {
            invocation: Arc::clone(invocation),
            id: metadata.request_id.clone(),
            answer: sender,
        };
        let conn = instance.begin(work)?;
        let head = conn.with_held(protocol::next_head(metadata, payload.len()));
        let outgoing = Outgoing::new(head, payload);
        let clock = clock.clone();
        Some(Self(Some(Inner {
            instance,
            clock,
            conn,
            outgoing,
            answer,
            kill_at,
        })))
    }

    /// Waits for the answer, until `deadline` or the handler's timeout; `None` when that came first.
    pub(crate) async fn answer(&mut self, deadline: Instant) -> Option<Answer> {
        let answer = match &mut self.0 {
            Some(inner) => inner.answer(deadline.min(inner.kill_at)).await,
            None => None,
        };
        if answer.is_some() {
            self.0 = None;
        }
        answer
    }
}

impl Inner {
    async fn answer(&mut self, until: Instant) -> Option<Answer> {
        let left = until.saturating_duration_since(self.clock.monotonic());
        let work = async {
            // A client that cannot be written to is about to end, or hangs: both are noticed below.
            let _ = self.conn.send(&mut self.outgoing).await;
            (&mut self.answer).await.unwrap_or(Answer::Died(None))
        };
        tokio::select! {
            biased;
            answer = work => Some(answer),
            () = self.clock.sleep(left) => None,
        }
    }

    async fn finish(mut self) {
        if self.answer(self.kill_at).await.is_none() {
            self.instance.logs.note("timed out: killed".to_owned());
            self.instance.kill();
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(inner) = self.0.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(inner.finish())),
            Err(_) => inner.instance.kill(),
        }
    }
}
