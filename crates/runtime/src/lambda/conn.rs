//! One connection of a runtime client. Whoever has an invocation writes it here directly, without waking another
//! task; reading is the connection's own task (`api`), which follows to the thread that waits for the answer (`seat`).

use std::{
    io::{self, IoSlice, Write},
    net::TcpStream,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::seat::Seat;

/// A connection and what waits to be sent on it.
pub(crate) struct Conn {
    /// For writing; known to no runtime, since whoever writes may be on any.
    stream: TcpStream,
    /// Answers that go out together with the next invocation: the client asked for it in the same breath.
    held: Mutex<BytesMut>,
    /// Where its conversation waits for the next request.
    pub(super) seat: Seat,
}

/// An answer on its way out; kept so that it can be continued elsewhere.
pub(crate) struct Outgoing {
    head: Bytes,
    body: Bytes,
    sent: usize,
}

impl Outgoing {
    /// A head and a body to send.
    pub(crate) const fn new(head: Bytes, body: Bytes) -> Self {
        Self {
            head,
            body,
            sent: 0,
        }
    }

    fn slices(&self) -> [IoSlice<'_>; 2] {
        let head = &self.head[self.sent.min(self.head.len())..];
        let body = &self.body[self.sent.saturating_sub(self.head.len())..];
        [IoSlice::new(head), IoSlice::new(body)]
    }

    fn is_sent(&self) -> bool {
        self.sent >= self.head.len() + self.body.len()
    }
}

impl Conn {
    /// Of a connection that is read elsewhere.
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Answers are whole messages: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            held: Mutex::new(BytesMut::new()),
            seat: Seat::default(),
        }
    }

    /// Keeps an answer until the next [`Conn::send`].
    pub(crate) fn hold(&self, answer: &[u8]) {
        self.held.lock().extend_from_slice(answer);
    }

    /// What was held, then `head`, to be sent in one piece.
    pub(crate) fn with_held(&self, head: String) -> Bytes {
        let mut held = self.held.lock();
        if held.is_empty() {
            return Bytes::from(head);
        }
        held.extend_from_slice(head.as_bytes());
        held.split().freeze()
    }

    /// Sends a small answer, and what was held before it.
    pub(crate) async fn answer(&self, answer: Bytes) -> io::Result<()> {
        let held = self.held.lock().split().freeze();
        self.send(&mut Outgoing::new(held, answer)).await
    }

    /// Sends all of `outgoing`; if dropped, sending it again goes on where it stopped.
    pub(crate) async fn send(&self, outgoing: &mut Outgoing) -> io::Result<()> {
        while !outgoing.is_sent() {
            match (&self.stream).write_vectored(&outgoing.slices()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => outgoing.sent += sent,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Waits until more can be sent: what is larger than the system's buffer takes its time, and this is a part of it.
    async fn writable(&self) -> io::Result<()> {
        // A descriptor of its own: of the same one, the event queue knows already that it is read.
        let stream = tokio::net::TcpStream::from_std(self.stream.try_clone()?)?;
        stream.writable().await
    }
}
