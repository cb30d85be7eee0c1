//! One invocation on an instance, from the first byte sent to the answer.
//!
//! A caller that goes away does not stop the handler, as on AWS: what is left of the run goes on in a task of its
//! own until the handler answers or its timeout kills the instance.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use model::{Clock, Invocation, InvocationId};
use tokio::sync::oneshot;

use super::{
    conn::{Conn, Outgoing},
    extended,
    instance::{Answer, Instance, Progress, Work},
    protocol::{self, Metadata},
};

/// A run that is under way.
pub(crate) struct Run(Option<Inner>);

struct Inner {
    instance: Arc<Instance>,
    clock: Clock,
    conn: Arc<Conn>,
    outgoing: Outgoing,
    answer: oneshot::Receiver<Progress>,
    /// When the handler's own timeout ends the instance.
    kill_at: Instant,
    id: InvocationId,
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
            streams: false,
            asks: None,
        };
        let conn = instance.begin(work, clock.now())?;
        conn.seat.follow();
        let events = instance.extensions.invoke(metadata);
        if !events.is_empty() {
            // They are in no hurry, and nobody waits for them but the next invocation.
            tokio::spawn(extended::send(events));
        }
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
            id: invocation.id,
        })))
    }

    /// Waits for the answer, until `deadline` or the handler's timeout; `None` when that came first. Of a reply that
    /// streams, the rest is for [`watch`] to wait for.
    pub(crate) async fn answer(&mut self, deadline: Instant) -> Option<Progress> {
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
    async fn answer(&mut self, until: Instant) -> Option<Progress> {
        let left = until.saturating_duration_since(self.clock.monotonic());
        let work = async {
            // A client that cannot be written to is about to end, or hangs: both are noticed below.
            let _ = self.conn.send(&mut self.outgoing).await;
            (&mut self.answer)
                .await
                .unwrap_or(Progress::Ended(Answer::Died(None)))
        };
        tokio::select! {
            biased;
            answer = work => Some(answer),
            () = self.clock.sleep(left) => None,
        }
    }

    async fn finish(mut self) {
        match self.answer(self.kill_at).await {
            Some(Progress::Ended(_)) => {}
            // Nobody reads it; the handler is let to its end.
            Some(Progress::Streams(streamed)) => {
                drop(streamed.pieces);
                end_of(
                    &self.instance,
                    self.id,
                    &self.clock,
                    streamed.end,
                    self.kill_at,
                )
                .await;
            }
            None => self.instance.late(self.id),
        }
    }
}

/// Waits for the end of a streamed reply in a task of its own, so that the handler's timeout holds even while nobody
/// reads. Returns where the end is told; `None` for the timeout.
pub(crate) fn watch(
    instance: &Arc<Instance>,
    id: InvocationId,
    clock: &Clock,
    end: oneshot::Receiver<Progress>,
    kill_at: Instant,
) -> oneshot::Receiver<Option<Answer>> {
    let (sender, receiver) = oneshot::channel();
    let (instance, clock) = (Arc::clone(instance), clock.clone());
    tokio::spawn(async move {
        let ended = end_of(&instance, id, &clock, end, kill_at).await;
        let _ = sender.send(ended);
    });
    receiver
}

/// How a streamed reply ended; `None` when the handler's timeout came first, which ends the instance.
async fn end_of(
    instance: &Arc<Instance>,
    id: InvocationId,
    clock: &Clock,
    end: oneshot::Receiver<Progress>,
    kill_at: Instant,
) -> Option<Answer> {
    let left = kill_at.saturating_duration_since(clock.monotonic());
    tokio::select! {
        biased;
        heard = end => Some(match heard {
            Ok(Progress::Ended(answer)) => answer,
            _ => Answer::Died(None),
        }),
        () = clock.sleep(left) => {
            instance.late(id);
            None
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
