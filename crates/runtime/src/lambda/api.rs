//! The Runtime API server of one instance: a listener on loopback, and a task per connection that reads requests
//! and tells the instance. Answers to `next` are not written here: whoever has the work writes them (`run`).

use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use model::{ByteSize, Clock};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    conn::Conn,
    extension_api,
    instance::{Answer, Instance},
    protocol::{self, Call, Refusal},
    seat::Waiting,
    wire::{self, Chunks, Framing, Head, LateError},
};
use crate::launcher::{Ends, Exit, peer};

/// Connections that one instance may hold at the same time; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 16;
/// More of them for each invocation that it works on at the same time: clients ask with as many workers as they like.
const MORE_CONNECTIONS: usize = 16;
/// The largest error object: beyond it, the rest is not read and the connection ends.
const MAX_ERROR: ByteSize = ByteSize::mib(1);
/// How much of a reply that is too large is read before the client gets its 413, so that it sees the answer.
const MAX_DISCARDED: u64 = 256 << 20;
/// How much of a streamed reply is read at once, so that its pieces are not small.
const STREAM_READ: usize = 64 << 10;
/// How long the end of a process waits for what it had sent before.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

/// Serves an instance until its process has ended, and all that it had sent is read.
pub(crate) async fn serve(
    instance: &Arc<Instance>,
    listener: TcpListener,
    clock: &Clock,
    exited: impl Future<Output = Exit>,
) -> Exit {
    let most = MAX_CONNECTIONS + MORE_CONNECTIONS * (instance.concurrency - 1);
    let room = Arc::new(Semaphore::new(most));
    let talk = |stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit| {
        let ends = stream.local_addr().map(|own| Ends { peer, own });
        let conversation = Conversation::new(stream, instance, clock, place);
        if let (Ok(ends), Ok(conversation)) = (ends, conversation) {
            tokio::spawn(conversation.begin(ends));
        }
    };
    let accept = async || {
        // It is closed at no time.
        let place = Arc::clone(&room).acquire_owned().await.ok();
        (listener.accept().await, place)
    };
    let follow = instance.logs.follow().fuse();
    tokio::pin!(exited, follow);
    let exit = loop {
        tokio::select! {
            exit = &mut exited => break exit,
            () = &mut follow => {}
            accepted = accept() => match accepted {
                (Ok((stream, peer)), Some(place)) => talk(stream, peer, place),
                // Out of descriptors, most likely: others will be closed.
                _ => clock.sleep(LAST_WORDS / 10).await,
            },
        }
    };
    while let (Some(Ok((stream, peer))), Ok(place)) = (
        listener.accept().now_or_never(),
        Arc::clone(&room).try_acquire_owned(),
    ) {
        talk(stream, peer, place);
    }
    let last_words = async {
        let all = u32::try_from(most).unwrap_or(u32::MAX);
        drop(room.acquire_many(all).await);
        if !futures_util::future::FusedFuture::is_terminated(&follow) {
            follow.await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
    exit
}

/// One connection, while requests come on it.
pub(super) struct Conversation {
    pub(super) conn: Arc<Conn>,
    pub(super) instance: Arc<Instance>,
    pub(super) clock: Clock,
    /// For reading, on the runtime that this goes on in.
    stream: TcpStream,
    input: BytesMut,
    /// Among those that the instance may hold.
    _place: OwnedSemaphorePermit,
}

/// Why a conversation ends; none of these is anybody's fault that could be told.
pub(super) enum End {
    /// The client closed the connection, or it broke.
    Closed,
    /// It was told that its last request was the last.
    Refused,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// A body, read to its end.
pub(super) enum Body {
    Whole(Bytes, Option<LateError>),
    TooLarge,
}

impl Conversation {
    fn new(
        stream: TcpStream,
        instance: &Arc<Instance>,
        clock: &Clock,
        place: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        let for_writing = stream.as_fd().try_clone_to_owned()?;
        Ok(Self {
            conn: Arc::new(Conn::new(for_writing.into())),
            instance: Arc::clone(instance),
            clock: clock.clone(),
            stream,
            input: BytesMut::new(),
            _place: place,
        })
    }

    async fn begin(self, ends: Ends) {
        if !self.is_ours(ends).await {
            let note =
                "another process asked this instance's Runtime API for work, and got nothing";
            return self.instance.logs.note(note.to_owned());
        }
        self.run().await;
    }

    /// Goes on until its end, or until it is taken elsewhere.
    async fn run(self) {
        let mut this = self;
        loop {
            this = match Waiting::new(this).await {
                Some(this) => this,
                None => return,
            };
            if this.turn().await.is_err() {
                break;
            }
        }
        this.instance.hung_up(&this.conn, this.clock.now());
    }

    /// Goes on in the runtime of whoever calls this.
    pub(super) fn go_on(self) {
        match self.stream.into_std().and_then(TcpStream::from_std) {
            Ok(stream) => drop(tokio::spawn(Self { stream, ..self }.run())),
            // Out of what event queues are made of: it is closed.
            Err(_) => self.instance.hung_up(&self.conn, self.clock.now()),
        }
    }

    /// Goes on where the instance was started, which is there as long as any instance is.
    pub(super) fn go_home(self) {
        if let Some(pool) = self.instance.pool.upgrade() {
            pool.spawn(async move { self.go_on() });
        }
    }

    /// Whether there is something to read, or nothing will be any more.
    pub(super) fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.input.is_empty() {
            return Poll::Ready(());
        }
        self.make_room();
        pin!(self.stream.read_buf(&mut self.input))
            .poll(cx)
            .map(drop)
    }

    /// Whether it is a process of this instance that asks. Mostly it is the first of them, which a few system calls show;
    /// else all are looked through.
    async fn is_ours(&self, ends: Ends) -> bool {
        let leader = self.instance.pid;
        if peer::is_leaders_own(leader, ends) {
            return true;
        }
        let ours = tokio::task::spawn_blocking(move || peer::is_of(leader, ends)).await;
        ours.unwrap_or(false)
    }

    /// One request and its answer.
    async fn turn(&mut self) -> Result<(), End> {
        let head = self.head().await?;
        if let Some(call) = extension_api::Call::of(head.method, &head.path) {
            return Box::pin(self.extension(head, call)).await;
        }
        let call = match Call::of(&head) {
            Ok(call) => call,
            Err(refusal) => return self.refuse(refusal).await,
        };
        if call == Call::Next {
            return match self.instance.ask(&self.conn, self.clock.now()) {
                Ok(()) => Ok(()),
                Err(refusal) => self.refuse(refusal).await,
            };
        }
        if head.expects_continue {
            self.conn.answer(protocol::CONTINUE).await?;
        }
        if let (Call::Response(id), Framing::Chunked, true) = (&call, head.framing, head.streams) {
            let taken = self.streamed(id, head.content_type).await?;
            return self.acknowledge(taken, head.closes).await;
        }
        let limit = match &call {
            Call::Response(_) => self.instance.reply_limit,
            _ => MAX_ERROR,
        };
        let body = self.body(head.framing, limit).await?;
        let taken = self.take(call, body, head.error_type);
        self.acknowledge(taken, head.closes).await
    }

    /// Answers a reply or an error that was read to its end.
    async fn acknowledge(&mut self, taken: Result<(), Refusal>, closes: bool) -> Result<(), End> {
        match taken {
            Ok(()) if closes => {
                self.conn.answer(protocol::ACCEPTED).await?;
                Err(End::Refused)
            }
            // The client has sent its next request already: it reads both answers at once.
            Ok(()) if !self.input.is_empty() => {
                self.conn.hold(&protocol::ACCEPTED);
                Ok(())
            }
            Ok(()) => Ok(self.conn.answer(protocol::ACCEPTED).await?),
            Err(refusal) => {
                self.conn.answer(refusal.response(closes)).await?;
                if closes { Err(End::Refused) } else { Ok(()) }
            }
        }
    }

    /// Tells the instance; what is refused was read, so that the connection can go on.
    fn take(&self, call: Call, body: Body, error_type: Option<String>) -> Result<(), Refusal> {
        let now = self.clock.now();
        match (call, body) {
            (Call::Next, _) => Ok(()),
            (Call::Response(id), Body::TooLarge) => {
                self.instance.answer(&id, Answer::TooLarge, now)?;
                Err(Refusal::TooLarge)
            }
            // That the handler failed counts for more than what it said of it.
            (Call::Error(id), Body::TooLarge) => {
                self.instance
                    .answer(&id, Answer::Error(Bytes::new(), error_type), now)
            }
            (Call::InitError, Body::TooLarge) => self.instance.init_error(Bytes::new(), error_type),
            (Call::Response(id), Body::Whole(body, None)) => {
                self.instance.answer(&id, Answer::Reply(body), now)
            }
            // The handler failed while its reply was streamed: the trailer says so.
            (Call::Response(id), Body::Whole(_, Some(late))) => {
                self.instance.answer(&id, failed_late(late), now)
            }
            (Call::Error(id), Body::Whole(body, _)) => {
                self.instance
                    .answer(&id, Answer::Error(body, error_type), now)
            }
            (Call::InitError, Body::Whole(body, _)) => self.instance.init_error(body, error_type),
        }
    }

    /// Refuses a request whose body was not read: the connection cannot go on.
    pub(super) async fn refuse(&self, refusal: Refusal) -> Result<(), End> {
        self.conn.answer(refusal.response(true)).await?;
        Err(End::Refused)
    }

    async fn head(&mut self) -> Result<Head, End> {
        loop {
            match wire::take_head(&mut self.input) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => self.more().await?,
                Err(_) => return Err(self.malformed().await),
            }
        }
    }

    pub(super) async fn body(&mut self, framing: Framing, limit: ByteSize) -> Result<Body, End> {
        match framing {
            Framing::Length(length) if length > limit.0 => self.discard(length).await,
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                while self.input.len() < length {
                    self.input.reserve((length - self.input.len()).min(1 << 20));
                    self.more().await?;
                }
                Ok(Body::Whole(self.input.split_to(length).freeze(), None))
            }
            Framing::Chunked => self.chunked(limit).await,
        }
    }

    async fn chunked(&mut self, limit: ByteSize) -> Result<Body, End> {
        let (mut chunks, mut body, mut length) = (Chunks::default(), BytesMut::new(), 0);
        loop {
            let before = body.len();
            match chunks.take(&mut self.input, &mut body) {
                Ok(true) if length + (body.len() - before) as u64 > limit.0 => {
                    return Ok(Body::TooLarge);
                }
                Ok(true) => return Ok(Body::Whole(body.freeze(), chunks.late)),
                Ok(false) => {}
                Err(_) => return Err(self.malformed().await),
            }
            length += (body.len() - before) as u64;
            if length > MAX_DISCARDED {
                return Err(self.malformed().await);
            }
            if length > limit.0 {
                body.clear();
            }
            self.more().await?;
        }
    }

    /// Passes a reply on while it comes, no faster than it is read. A reader that has gone away does not stop the
    /// handler, as on AWS.
    async fn streamed(
        &mut self,
        id: &str,
        content_type: Option<String>,
    ) -> Result<Result<(), Refusal>, End> {
        let mut reader = match self.instance.stream(id, content_type) {
            Ok(reader) => Some(reader),
            Err(refusal) => return Err(self.refuse(refusal).await.err().unwrap_or(End::Refused)),
        };
        let limit = self.instance.stream_limit.0;
        let (mut chunks, mut length) = (Chunks::default(), 0);
        loop {
            let mut piece = BytesMut::new();
            let Ok(done) = chunks.take(&mut self.input, &mut piece) else {
                return Err(self.malformed().await);
            };
            length += piece.len() as u64;
            if length > limit + MAX_DISCARDED {
                return Err(self.malformed().await);
            }
            if length > limit {
                reader = None;
            }
            if let Some(to) = reader.as_ref().filter(|_| !piece.is_empty())
                && to.send(piece.freeze()).await.is_err()
            {
                reader = None;
            }
            if done {
                break;
            }
            self.input.reserve(STREAM_READ);
            self.more().await?;
        }
        drop(reader);
        let now = self.clock.now();
        if length > limit {
            self.instance.end_stream(id, Answer::TooLarge, now).ok();
            return Ok(Err(Refusal::TooLarge));
        }
        let end = chunks.late.map_or(Answer::Streamed, failed_late);
        Ok(self.instance.end_stream(id, end, now))
    }

    async fn discard(&mut self, length: u64) -> Result<Body, End> {
        if length > MAX_DISCARDED {
            return Err(self.malformed().await);
        }
        let mut left = length;
        loop {
            let taken = left.min(self.input.len() as u64);
            let _ = self
                .input
                .split_to(usize::try_from(taken).unwrap_or(usize::MAX));
            left -= taken;
            if left == 0 {
                return Ok(Body::TooLarge);
            }
            self.more().await?;
        }
    }

    async fn malformed(&self) -> End {
        let _ = self.conn.answer(protocol::BAD_REQUEST).await;
        End::Refused
    }

    async fn more(&mut self) -> Result<(), End> {
        self.make_room();
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(End::Closed),
            _ => Ok(()),
        }
    }

    fn make_room(&mut self) {
        if self.input.capacity() - self.input.len() < 512 {
            self.input.reserve(4096);
        }
    }
}

/// The error that a trailer reports.
fn failed_late(late: LateError) -> Answer {
    Answer::Error(late.body, Some(late.error_type))
}
