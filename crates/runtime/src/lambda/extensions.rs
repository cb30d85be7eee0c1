//! The extensions of one instance: which there are, what each is doing, and when the instance may be given work.
//!
//! No I/O and no tasks: events are returned for the caller to send. Every change happens under one lock, which is taken
//! after the instance's own or alone. An instance without extensions passes through here at the price of that lock.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use super::{
    conn::Conn,
    extension_api::{self, Reason, Refusal, Wants},
    protocol::Metadata,
};

/// The most extensions of an instance, external and internal, as on AWS.
pub(crate) const MOST: usize = 10;

/// An event on its way to an extension: where, and its bytes.
pub(crate) type Sending = (Arc<Conn>, bytes::Bytes);

/// The extensions of one instance.
pub(crate) struct Extensions {
    /// The file names of those that were started with it.
    external: Vec<String>,
    state: Mutex<State>,
    /// Something changed for those who wait: a registration, an end.
    changed: Notify,
}

#[derive(Default)]
struct State {
    members: Vec<Member>,
    /// External ones whose process has ended.
    ended: Vec<String>,
    /// Where the runtime asks for work that it may not have yet.
    held: Vec<Arc<Conn>>,
    /// The runtime has asked for work once: no more registrations.
    closed: bool,
    /// The end was announced.
    ends: bool,
}

struct Member {
    id: String,
    name: String,
    wants: Wants,
    /// It has asked for an event once.
    ready: bool,
    /// Where it waits for one.
    asks: Option<Arc<Conn>>,
    /// Events that it has not asked for yet: one invocation and the end, at most.
    waiting: VecDeque<Value>,
}

impl Member {
    /// Whether it has done what it does about the last invocation, or before the first.
    const fn is_free(&self) -> bool {
        self.ready && (!self.wants.invoke || self.asks.is_some())
    }

    fn tell(&mut self, event: Value) -> Option<Sending> {
        match self.asks.take() {
            Some(conn) => Some((conn, extension_api::event(&self.id, &event))),
            None => {
                self.waiting.push_back(event);
                None
            }
        }
    }
}

impl State {
    fn member(&mut self, id: Option<&str>) -> Result<&mut Member, Refusal> {
        let id = id.ok_or(Refusal::Missing("Lambda-Extension-Identifier"))?;
        let well_formed = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if !well_formed {
            return Err(Refusal::Identifier);
        }
        let member = self.members.iter_mut().find(|member| member.id == id);
        member.ok_or_else(|| Refusal::Unknown(id.to_owned()))
    }
}

impl Extensions {
    /// Those with these file names were started with it.
    pub(crate) fn new(external: Vec<String>) -> Self {
        Self {
            external,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// One registers under `name`; `id` will be its identifier.
    pub(crate) fn register(
        &self,
        name: Option<String>,
        body: &[u8],
        id: &str,
        several: bool,
    ) -> Result<(), Refusal> {
        let name = name.filter(|name| !name.is_empty() && name.len() <= extension_api::MAX_NAME);
        let name = name.ok_or(Refusal::Name)?;
        let external = self.external.contains(&name);
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refusal::Closed);
        }
        if state.members.iter().any(|member| member.name == name) {
            return Err(Refusal::Registered);
        }
        let missing = |name: &&String| state.members.iter().all(|m| m.name != **name);
        let to_come = self.external.iter().filter(missing).count();
        if !external && state.members.len() + to_come >= MOST {
            return Err(Refusal::TooMany);
        }
        let wants = extension_api::wants(body, external, several)?;
        state.members.push(Member {
            id: id.to_owned(),
            name,
            wants,
            ready: false,
            asks: None,
            waiting: VecDeque::new(),
        });
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// One asks for its next event on `conn`. Returns what is to be sent to it at once, and the connections on which
    /// the runtime may now be given work.
    pub(crate) fn next(
        &self,
        id: Option<&str>,
        conn: &Arc<Conn>,
    ) -> Result<(Option<Sending>, Vec<Arc<Conn>>), Refusal> {
        let mut state = self.state.lock();
        let member = state.member(id)?;
        if member.asks.is_some() {
            return Err(Refusal::State("Ready", "Ready", member.id.clone()));
        }
        member.ready = true;
        if let Some(event) = member.waiting.pop_front() {
            let bytes = extension_api::event(&member.id, &event);
            return Ok((Some((Arc::clone(conn), bytes)), Vec::new()));
        }
        member.asks = Some(Arc::clone(conn));
        let free = self.are_free(&state);
        let held = if free {
            std::mem::take(&mut state.held)
        } else {
            Vec::new()
        };
        Ok((None, held))
    }

    /// The name of the one that reports an error; in its `init` it may do that only before it asks for events.
    pub(crate) fn failing(&self, id: Option<&str>, init: bool) -> Result<String, Refusal> {
        let mut state = self.state.lock();
        let member = state.member(id)?;
        if init && member.ready {
            return Err(Refusal::State("Ready", "InitError", member.id.clone()));
        }
        Ok(member.name.clone())
    }

    /// The runtime asks for work on `conn`: true when it has to wait for extensions, and is given back by
    /// [`Extensions::next`] then.
    pub(crate) fn hold(&self, conn: &Arc<Conn>) -> bool {
        let mut state = self.state.lock();
        state.closed = true;
        let holds = !self.are_free(&state);
        if holds {
            state.held.push(Arc::clone(conn));
        }
        holds
    }

    /// A connection was closed: nothing is sent on it any more.
    pub(crate) fn hung_up(&self, conn: &Arc<Conn>) {
        let mut state = self.state.lock();
        state.held.retain(|held| !Arc::ptr_eq(held, conn));
        for member in &mut state.members {
            if member
                .asks
                .as_ref()
                .is_some_and(|asks| Arc::ptr_eq(asks, conn))
            {
                member.asks = None;
            }
        }
    }

    /// An invocation begins.
    pub(crate) fn invoke(&self, metadata: &Metadata) -> Vec<Sending> {
        let mut state = self.state.lock();
        if state.members.iter().all(|member| !member.wants.invoke) {
            return Vec::new();
        }
        let event = extension_api::invoke(metadata);
        let told = state.members.iter_mut().filter(|m| m.wants.invoke);
        told.filter_map(|member| member.tell(event.clone()))
            .collect()
    }

    /// The instance is to end at `deadline_ms`; `None` when nobody is to be told of that, or everybody was.
    pub(crate) fn shut_down(&self, reason: Reason, deadline_ms: u64) -> Option<Vec<Sending>> {
        let mut state = self.state.lock();
        if self.waits_for(&state) == 0 || std::mem::replace(&mut state.ends, true) {
            return None;
        }
        let event = extension_api::shutdown(reason, deadline_ms);
        let told = state.members.iter_mut().filter(|m| m.wants.shutdown);
        Some(
            told.filter_map(|member| member.tell(event.clone()))
                .collect(),
        )
    }

    /// Whether the end was announced, and is yet to come.
    pub(crate) fn ends(&self) -> bool {
        self.state.lock().ends
    }

    /// The process of an external one has ended.
    pub(crate) fn ended(&self, name: &str) {
        self.state.lock().ended.push(name.to_owned());
        self.changed.notify_waiters();
    }

    /// Waits until all that were started have registered.
    pub(crate) async fn all_registered(&self) {
        self.until(|state| {
            let registered = |name: &String| state.members.iter().any(|m| m.name == *name);
            self.external.iter().all(registered)
        })
        .await;
    }

    /// Waits until all have ended that were told of the end.
    pub(crate) async fn all_ended(&self) {
        self.until(|state| self.waits_for(state) == 0).await;
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn are_free(&self, state: &State) -> bool {
        let registered = |name: &String| state.members.iter().any(|m| m.name == *name);
        self.external.iter().all(registered) && state.members.iter().all(Member::is_free)
    }

    fn waits_for(&self, state: &State) -> usize {
        let runs = |m: &&Member| m.wants.shutdown && !state.ended.contains(&m.name);
        state.members.iter().filter(runs).count()
    }
}
