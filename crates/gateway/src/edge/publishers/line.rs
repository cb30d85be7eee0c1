//! One connection that publishes: events come as messages, and each is answered by one, in the order in which they came.
//!
//! What is there to read is published together, and is on its way into the log while more is read, up to a bound; what
//! is over it stays in the socket, and the client waits.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt, stream::FuturesOrdered};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use model::{Error, code};
use platform::{
    Platform,
    events::{Publisher, Receipt, told},
    telemetry::Full,
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        error::ProtocolError,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};

use crate::server::Link;

/// Bytes of the buffer to read into, and of that to write from.
pub(super) const BUFFER: usize = 64 << 10;
/// Bytes that wait for a client that takes none: an answer, and pongs to who pings and does not read.
pub(super) const UNSENT: usize = 512 << 10;
/// Events that are not answered yet.
const WINDOW: usize = 1024;
/// Events that are published together; and their bytes, give or take the last.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// How long a client may take to close what is over.
const GOODBYE: Duration = Duration::from_secs(2);
/// A reason has to fit into the frame of a close (RFC 6455, section 5.5).
const REASON: usize = 123;

type Publishing = Pin<Box<dyn Future<Output = Result<Vec<Receipt>, Error>> + Send>>;

struct Line<'p> {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    publisher: Arc<Publisher>,
    platform: &'p Platform,
    /// What is on its way into the log.
    open: FuturesOrdered<Publishing>,
    unanswered: usize,
    heard: Instant,
}

/// Why nothing more is read.
enum End {
    /// The client closed it, or its half of it.
    Closed,
    /// We do.
    Close(CloseCode, String),
}

/// Why a connection broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// There never was one.
    #[error("the client did not switch protocols")]
    Upgrade(#[from] hyper::Error),
    /// The socket failed.
    #[error("the socket failed")]
    Socket(#[from] tungstenite::Error),
    /// The client takes no answers, or says nothing.
    #[error("the client was silent for too long")]
    Silent(#[from] tokio::time::error::Elapsed),
    /// A receipt could not be written.
    #[error("{0}")]
    Internal(#[from] Error),
}

/// Serves `client` to the end of its connection, or until the server drains and everything that was read is answered.
pub(super) async fn run(
    client: Upgraded,
    publisher: Arc<Publisher>,
    platform: &Platform,
    link: &Link,
) -> Result<(), Broken> {
    let largest = usize::try_from(platform.limits().event.0).ok();
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(UNSENT)
        .max_message_size(largest)
        .max_frame_size(largest);
    let io = TokioIo::new(client);
    let line = Line {
        socket: WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await,
        publisher,
        platform,
        open: FuturesOrdered::new(),
        unanswered: 0,
        heard: Instant::now(),
    };
    line.run(link).await
}

impl Line<'_> {
    async fn run(mut self, link: &Link) -> Result<(), Broken> {
        // After so long without a message the client is asked whether it is there; after as long again, it is not.
        let silence = self.platform.limits().body_idle / 2;
        let mut draining = pin!(link.draining());
        let mut alarm = pin!(sleep_until(self.heard + silence));
        let mut switched = self.platform.apps().changed();
        // What was taken away since the handshake is seen, too.
        switched.mark_changed();
        let (mut is_asked, mut end) = (false, None);
        while end.is_none() || !self.open.is_empty() {
            let reads = end.is_none() && self.unanswered < WINDOW;
            tokio::select! {
                biased;
                Some(receipts) = self.open.next() => {
                    let is_closed = matches!(end, Some(End::Closed));
                    end = self.answer(receipts, is_closed).await?.or(end);
                }
                Ok(()) = switched.changed(), if end.is_none() => {
                    end = self.publisher.allowed().err().map(|error| forbidden(&error));
                }
                message = self.socket.next(), if reads => {
                    (self.heard, is_asked) = (Instant::now(), false);
                    end = self.gather(message)?;
                }
                () = &mut draining, if end.is_none() => {
                    end = Some(End::Close(CloseCode::Away, "the server stops".to_owned()));
                }
                () = &mut alarm, if reads => {
                    let due = self.heard + silence;
                    if due > Instant::now() {
                        alarm.as_mut().reset(due);
                        continue;
                    }
                    if is_asked {
                        let reason = "the client does not answer".to_owned();
                        end = Some(End::Close(CloseCode::Policy, reason));
                        continue;
                    }
                    is_asked = true;
                    alarm.as_mut().reset(Instant::now() + silence);
                    let ping = self.socket.send(Message::Ping(Default::default()));
                    timeout(self.platform.limits().body_idle, ping).await??;
                }
            }
        }
        self.end(end).await
    }

    /// Takes `first` and what else is there to read, and begins to publish it; why nothing more is to be read, if so.
    fn gather(
        &mut self,
        first: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<Option<End>, Broken> {
        let (mut batch, mut bytes, mut next, mut end) = (Vec::new(), 0, Some(first), None);
        while let Some(message) = next {
            match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    let message = message.into_data();
                    bytes += message.len();
                    batch.push(self.publisher.read(&message));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => end = Some(End::Closed),
                Some(Err(error)) => end = Some(self.refused(error)?),
            }
            let is_full = batch.len() >= BATCH.min(WINDOW - self.unanswered);
            if end.is_some() || is_full || bytes >= BATCH_BYTES {
                break;
            }
            next = self.socket.next().now_or_never();
        }
        if !batch.is_empty() {
            self.unanswered += batch.len();
            let publisher = Arc::clone(&self.publisher);
            let publishing = async move { publisher.publish(batch).await };
            self.open.push_back(Box::pin(publishing));
        }
        Ok(end)
    }

    /// What the client is told of an error of the protocol.
    fn refused(&self, error: tungstenite::Error) -> Result<End, Broken> {
        match error {
            tungstenite::Error::Capacity(_) => {
                let largest = self.platform.limits().event;
                let reason = format!("an event has at most {largest}");
                Ok(End::Close(CloseCode::Size, reason))
            }
            tungstenite::Error::Utf8(_) => {
                let reason = "a text is not UTF-8".to_owned();
                Ok(End::Close(CloseCode::Invalid, reason))
            }
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                Ok(End::Closed)
            }
            tungstenite::Error::Protocol(error) => {
                Ok(End::Close(CloseCode::Protocol, error.to_string()))
            }
            tungstenite::Error::ConnectionClosed => Ok(End::Closed),
            error => Err(error.into()),
        }
    }

    /// Answers these events, and those whose receipts are there by now; why nothing more is to be read, if so.
    async fn answer(
        &mut self,
        first: Result<Vec<Receipt>, Error>,
        is_closed: bool,
    ) -> Result<Option<End>, Broken> {
        let (mut ready, mut receipts, mut end) = (Some(first), Vec::new(), None);
        while let Some(some) = ready {
            match some {
                Ok(some) => receipts.extend(some),
                // Whoever may not publish any more is not answered event by event.
                Err(error) => {
                    self.open.clear();
                    end = Some(forbidden(&error));
                    break;
                }
            }
            ready = self.open.next().now_or_never().flatten();
        }
        self.send(&receipts, is_closed).await?;
        Ok(end)
    }

    /// Says what became of these events, and does so although the client has closed its half: whoever sends all and then
    /// closes is told before the close is answered (RFC 6455, section 5.5.1). The protocol's state knows no more messages by
    /// then.
    async fn send(&mut self, receipts: &[Receipt], is_closed: bool) -> Result<(), Broken> {
        let patience = self.platform.limits().body_idle;
        self.unanswered -= receipts.len();
        let (mut late, mut unsent) = (Vec::new(), 0);
        for receipt in receipts {
            self.note(receipt);
            let text = told(receipt)?;
            if is_closed {
                let frame = Frame::message(text, OpCode::Data(Data::Text), true);
                frame.format(&mut late)?;
                continue;
            }
            unsent += text.len();
            timeout(patience, self.socket.feed(Message::text(text))).await??;
            if unsent > BUFFER {
                timeout(patience, self.socket.flush()).await??;
                unsent = 0;
            }
        }
        if is_closed {
            let written = timeout(patience, self.socket.get_mut().write_all(&late)).await?;
            return Ok(written.map_err(tungstenite::Error::Io)?);
        }
        Ok(timeout(patience, self.socket.flush()).await??)
    }

    fn note(&self, receipt: &Receipt) {
        if let Err(error) = receipt
            && [code::LOG_FULL, code::STORE_BUSY].contains(&error.code)
        {
            let refusals = self.platform.telemetry().refusals();
            refusals.request(None, Full::Log);
        }
    }

    async fn end(mut self, end: Option<End>) -> Result<(), Broken> {
        if let Some(End::Close(code, reason)) = end {
            let reason = reason[..reason.floor_char_boundary(REASON)].into();
            let frame = Some(CloseFrame { code, reason });
            self.socket.close(frame).await?;
        }
        // Whoever closed it is answered; whoever did not is waited for.
        let goodbye = async {
            while let Some(Ok(_)) = self.socket.next().await {}
            SinkExt::close(&mut self.socket).await
        };
        let _ = timeout(GOODBYE, goodbye).await;
        Ok(())
    }
}

fn forbidden(error: &Error) -> End {
    End::Close(CloseCode::Policy, error.to_string())
}
