//! An instance and its extensions: the calls that they make, and an end that they are told of.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use model::{ByteSize, Clock, Run, Time};

use super::{
    api::{Body, Conversation, End},
    conn::{Conn, Outgoing},
    extension_api::{self, Call, Headers, Reason, Refusal},
    extensions::Sending,
    instance::{Answer, Instance},
    payload::{failure, function_name},
    protocol,
    wire::Head,
};
use crate::launcher::Exit;

/// How long extensions have for their end, as on AWS where an external one is registered.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);
/// The signal that cannot be caught.
const KILL: i32 = 9;
/// The largest body that an extension may send: an error object, as of the runtime.
const MAX_BODY: ByteSize = ByteSize::mib(1);

impl Conversation {
    /// One request of an extension, and its answer; `call` is none when the path has another method.
    pub(super) async fn extension(&mut self, head: Head, call: Option<Call>) -> Result<(), End> {
        let Some(call) = call else {
            return self.refuse(protocol::Refusal::MethodNotAllowed).await;
        };
        if head.expects_continue {
            self.conn.answer(protocol::CONTINUE).await?;
        }
        let Body::Whole(body, _) = self.body(head.framing, MAX_BODY).await? else {
            return self.refuse(protocol::Refusal::TooLarge).await;
        };
        let headers = head.extension.map(|said| *said).unwrap_or_default();
        let answer = match call {
            Call::Register => self.instance.register(headers, &body, &self.clock),
            Call::Next => match self.next(&headers) {
                Ok(None) => return Ok(()),
                Ok(Some(event)) => Ok(event),
                Err(refusal) => Err(refusal),
            },
            Call::InitError | Call::ExitError => {
                return self.failed(headers, body, call).await;
            }
            Call::Subscribe => Err(Refusal::Subscription),
        };
        let answer = answer.unwrap_or_else(|refusal| refusal.response());
        self.conn.answer(answer).await?;
        if head.closes {
            Err(End::Refused)
        } else {
            Ok(())
        }
    }

    fn next(&self, headers: &Headers) -> Result<Option<Bytes>, Refusal> {
        let extensions = &self.instance.extensions;
        let (now, freed) = extensions.next(headers.identifier.as_deref(), &self.conn)?;
        for conn in freed {
            if let Err(refusal) = self.instance.next(&conn, self.clock.now()) {
                tokio::spawn(async move { conn.answer(refusal.response(true)).await });
            }
        }
        Ok(now.map(|(_, event)| event))
    }

    async fn failed(&self, headers: Headers, body: Bytes, call: Call) -> Result<(), End> {
        let id = headers.identifier.as_deref();
        let failing = self
            .instance
            .extensions
            .failing(id, call == Call::InitError);
        let kind = headers.error_type;
        let (name, kind) = match (failing, kind) {
            (Ok(name), Some(kind)) => (name, kind),
            (failing, _) => {
                let missing = Refusal::Missing("Lambda-Extension-Function-Error-Type");
                let refusal = failing.err().unwrap_or(missing);
                return Ok(self.conn.answer(refusal.response()).await?);
            }
        };
        self.conn.answer(protocol::ACCEPTED).await?;
        let note = format!("the extension `{name}` reports an error: {kind}");
        self.instance.logs.note(note);
        let object = failure::posted(body, Some(&kind));
        self.instance.extension_failed(object, Reason::Failure);
        Ok(())
    }
}

impl Instance {
    /// The runtime asks for work on `conn`: given once its extensions are done with what was before; `now` is when.
    pub(crate) fn ask(
        self: &Arc<Self>,
        conn: &Arc<Conn>,
        now: Time,
    ) -> Result<(), protocol::Refusal> {
        if !self.is_working() && self.extensions.hold(conn) {
            let pool = self.pool.upgrade();
            pool.inspect(|pool| self.marks.asked(pool.context.clock.monotonic()));
            return Ok(());
        }
        self.next(conn, now)
    }

    fn register(&self, headers: Headers, body: &[u8], clock: &Clock) -> Result<Bytes, Refusal> {
        let pool = self.pool.upgrade().ok_or(Refusal::Closed)?;
        let id = pool.context.ids.instance(clock).to_string();
        let several = self.concurrency > 1;
        self.extensions.register(headers.name, body, &id, several)?;
        let spec = &pool.spec;
        let handler = match &spec.workload.run {
            Run::Lambda { handler, .. } => handler.as_str(),
            _ => "",
        };
        let function = function_name(&spec.app, &spec.workload.name);
        Ok(extension_api::registered(&id, &function, handler))
    }

    /// An extension has failed, of which `object` tells: so has the instance.
    pub(super) fn extension_failed(self: &Arc<Self>, object: Bytes, reason: Reason) {
        self.logs.catch_up();
        self.fail(object.clone(), || Answer::Extension(object.clone()));
        self.retire(reason);
    }

    /// Its runtime has ended by itself, and its extensions run on: those that want to know are told and have [`SHUTDOWN_LIMIT`] for it, as
    /// after every failure. Then `go_on` has its first process end, too.
    pub(super) fn runtime_ended(
        self: &Arc<Self>,
        exit: Exit,
        go_on: impl FnOnce() + Send + 'static,
    ) {
        let Some(pool) = self.pool.upgrade() else {
            return self.kill();
        };
        self.logs.catch_up();
        let (is_there, offered) = self.take_no_more();
        if !is_there {
            // Somebody ends it already, and has told the extensions of that.
            return;
        }
        self.marks.runtime_ended(exit);
        pool.withdraw(self, offered);
        // Who was killed may have been so for its memory: that shows when all of it has ended.
        if exit.signal != Some(KILL) {
            self.end_with(exit);
        }
        let clock = pool.context.clock.clone();
        let deadline = (clock.now() + SHUTDOWN_LIMIT).as_millis();
        let events = self.extensions.shut_down(Reason::Failure, deadline);
        let this = Arc::clone(self);
        pool.spawn(async move {
            if let Some(events) = events {
                this.hear_out(events, &clock).await;
            }
            go_on();
            // Its first process does nothing else any more; and if it does, it is ended.
            clock.sleep(SHUTDOWN_LIMIT).await;
            this.kill();
        });
    }

    /// Tells extensions of the end, and waits for theirs, as long as they have.
    async fn hear_out(&self, events: Vec<Sending>, clock: &Clock) {
        let ended = async {
            send(events).await;
            self.extensions.all_ended().await;
        };
        tokio::select! {
            () = ended => {}
            () = clock.sleep(SHUTDOWN_LIMIT) => {
                self.logs.note("extensions did not end in time: killed".to_owned());
            }
        }
    }

    /// Ends it; extensions that want to know are told, and have [`SHUTDOWN_LIMIT`] for it. It gets no more work.
    pub(crate) fn retire(self: &Arc<Self>, reason: Reason) {
        let Some(pool) = self.pool.upgrade() else {
            return self.kill();
        };
        let clock = pool.context.clock.clone();
        let deadline = (clock.now() + SHUTDOWN_LIMIT).as_millis();
        let Some(events) = self.extensions.shut_down(reason, deadline) else {
            // What was told already has its time.
            if !self.extensions.ends() {
                self.kill();
            }
            return;
        };
        self.leave();
        if reason != Reason::Spindown {
            self.freeze();
        }
        let this = Arc::clone(self);
        pool.spawn(async move {
            this.hear_out(events, &clock).await;
            this.kill();
        });
    }
}

/// Sends events to those who wait for them; who cannot be written to is about to end.
pub(crate) async fn send(events: Vec<Sending>) {
    for (conn, event) in events {
        let _ = conn.send(&mut Outgoing::new(event, Bytes::new())).await;
    }
}
