//! Looks at accepted invocations, and notes which of them their status says are done: an acknowledgement to the client
//! that invoked, which is told it from disk. What the sink gets of one after that, it must not get.

use std::{collections::VecDeque, net::SocketAddr, path::PathBuf, sync::Arc};

use super::{
    observer::{Look, Settled, length},
    publishers::Shared,
};
use crate::http::{Client, Request};

/// Looks at statuses, the longest accepted first.
pub(super) struct Statuses {
    client: Client,
    ledger: PathBuf,
    shared: Arc<Shared>,
    /// Not seen done so far.
    waiting: VecDeque<String>,
}

impl Statuses {
    pub(super) fn new(gateway: SocketAddr, ledger: PathBuf, shared: Arc<Shared>) -> Self {
        Self {
            client: Client::new(gateway),
            ledger,
            shared,
            waiting: VecDeque::new(),
        }
    }

    /// Whether the server says that it is done; between two servers there is nobody to ask.
    fn is_done(&mut self, id: &str) -> bool {
        let path = format!("/_tangelo/invocations/{id}");
        let answer = self.client.send(&Request::get(&path));
        answer.is_ok_and(|answer| answer.status == 200 && answer.json()["state"] == "done")
    }
}

impl Look for Statuses {
    fn once(&mut self, settled: &mut Settled) -> anyhow::Result<()> {
        self.waiting.extend(self.shared.accepted().drain(..));
        while let Some(id) = self.waiting.pop_front() {
            if !self.is_done(&id) {
                // Those behind it hardly are; next time one of them is asked for first.
                self.waiting.push_back(id);
                break;
            }
            // An invocation's idempotency key is its id unless its client has one.
            settled.insert(id, length(&self.ledger)?);
        }
        Ok(())
    }
}
