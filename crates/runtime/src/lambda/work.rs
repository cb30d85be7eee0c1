//! What an instance works on: the words between it, who waits for the answer, and the Runtime API. No locks, no I/O.

use std::sync::Arc;

use bytes::Bytes;
use model::{ByteSize, Invocation, InvocationId, Time};
use tokio::sync::{mpsc, oneshot};

use super::conn::Conn;
use crate::launcher::Exit;

/// What an instance does that has asked for work.
pub(crate) struct Up {
    /// Connections on which it waits for work; what asked last gets it first.
    pub(crate) asking: Vec<Arc<Conn>>,
    /// What it works on.
    pub(crate) works: Vec<Work>,
    /// Places in it that the pool knows of: to be given away, or given to somebody who has not used it yet.
    pub(crate) offered: usize,
    /// It has answered this invocation and has not asked for more; only of one that works on one at a time.
    pub(crate) answered: Option<InvocationId>,
    /// Since when it has nothing to do, if so; else since when it works.
    pub(crate) since: Time,
    /// It finishes what it has and gets no more.
    pub(crate) retires: bool,
}

impl Up {
    /// Places that may be offered beyond those that are.
    pub(crate) fn free(&mut self, concurrency: usize) -> usize {
        if self.retires {
            return 0;
        }
        let room = concurrency.saturating_sub(self.works.len());
        let more = self.asking.len().min(room).saturating_sub(self.offered);
        self.offered += more;
        more
    }
}

/// What it works on, and who waits for that.
pub(crate) struct Work {
    pub(crate) invocation: Arc<Invocation>,
    /// The invocation's id as the client writes it.
    pub(crate) id: String,
    /// Told of the answer; once the reply streams, of its end.
    pub(crate) answer: oneshot::Sender<Progress>,
    /// Whether the reply streams.
    pub(crate) streams: bool,
    /// Where the client asks for more before its streamed reply is read: it does that on another connection.
    pub(crate) asks: Option<Arc<Conn>>,
}

/// What is heard of an invocation.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Its reply has begun.
    Streams(Streamed),
    /// It has ended.
    Ended(Answer),
}

/// A reply that comes piece by piece.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// What the client says that it is.
    pub(crate) content_type: Option<String>,
    /// Its pieces, as they come: who does not take them makes the handler wait.
    pub(crate) pieces: mpsc::Receiver<Bytes>,
    /// How it ended, known after the last piece.
    pub(crate) end: oneshot::Receiver<Progress>,
}

/// How an invocation ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The handler replied.
    Reply(Bytes),
    /// The handler's streamed reply is complete.
    Streamed,
    /// The handler failed: the error object and the type that the client named.
    Error(Bytes, Option<String>),
    /// The handler's reply was too large.
    TooLarge,
    /// The process ended; `None` when it is not known how.
    Died(Option<Exit>),
    /// One of its extensions failed, of which this error object tells.
    Extension(Bytes),
    /// It had more than this in its temporary folder, and was ended.
    Overflowed(ByteSize),
}

/// Why an instance did not become ready.
#[derive(Debug)]
pub(crate) enum InitFailure {
    /// The client reported this error object.
    Reported(Bytes, Option<String>),
    /// The process ended.
    Exited(Option<Exit>),
}
