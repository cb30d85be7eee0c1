//! Bytes between two connections, both ways, until both have ended. What is read is written at once; only what the other
//! side does not take now is kept. So two that are idle hold no buffer, and a slow one holds one.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at once, on the stack.
const PIECE: usize = 8 << 10;

/// One way between the two.
#[derive(Default)]
struct Way {
    /// What was read and not written yet, from `at` on.
    kept: Vec<u8>,
    at: usize,
    /// Something was written and not flushed.
    unflushed: bool,
    /// Nothing more comes.
    ended: bool,
    /// And the other side was told so.
    done: bool,
}

/// Passes on what comes from either, until both have ended or one fails.
///
/// # Errors
/// The first error of either.
pub(crate) async fn relay<A, B>(one: &mut A, other: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Way::default(), Way::default());
    poll_fn(|cx| {
        let there = there.poll(Pin::new(one), Pin::new(other), cx)?;
        let back = back.poll(Pin::new(other), Pin::new(one), cx)?;
        if there.is_ready() && back.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

impl Way {
    fn poll<R, W>(
        &mut self,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        loop {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_kept(to.as_mut(), cx))?;
            if self.ended {
                ready!(to.as_mut().poll_shutdown(cx))?;
                self.done = true;
                continue;
            }
            let mut bytes = [MaybeUninit::uninit(); PIECE];
            let mut piece = ReadBuf::uninit(&mut bytes);
            let Poll::Ready(read) = from.as_mut().poll_read(cx, &mut piece) else {
                if self.unflushed {
                    ready!(to.as_mut().poll_flush(cx))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            };
            read?;
            self.ended = piece.filled().is_empty();
            ready!(self.poll_write(piece.filled(), to.as_mut(), cx))?;
        }
    }

    /// Writes what was kept; then nothing is, not even the room for it.
    fn poll_kept<W: AsyncWrite>(
        &mut self,
        mut to: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.at < self.kept.len() {
            let count = ready!(to.as_mut().poll_write(cx, &self.kept[self.at..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.at += count;
            self.unflushed = true;
        }
        if self.at > 0 {
            (self.kept, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what was just read, and keeps what is not taken now.
    fn poll_write<W: AsyncWrite>(
        &mut self,
        mut bytes: &[u8],
        mut to: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !bytes.is_empty() {
            let Poll::Ready(count) = to.as_mut().poll_write(cx, bytes) else {
                self.kept = bytes.to_vec();
                return Poll::Pending;
            };
            let count = count?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes = &bytes[count..];
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    use super::*;

    /// Both ends, joined through pipes that hold `room` bytes each.
    fn joined(room: usize) -> (tokio::io::DuplexStream, tokio::io::DuplexStream) {
        let ((client, mut one), (mut other, workload)) = (duplex(room), duplex(room));
        tokio::spawn(async move { relay(&mut one, &mut other).await });
        (client, workload)
    }

    #[tokio::test]
    async fn everything_passes_both_ways_however_little_is_taken_at_once() {
        for room in [1, 7, 64 << 10] {
            let (client, workload) = joined(room);
            let there: Vec<u8> = (0..50_000_u32).map(|n| n.to_le_bytes()[0]).collect();
            let back: Vec<u8> = there.iter().rev().copied().collect();
            let (mut client_reads, mut client_writes) = split(client);
            let (mut workload_reads, mut workload_writes) = split(workload);
            let (mut came_there, mut came_back) = (Vec::new(), Vec::new());
            let send = async |bytes: &[u8], to: &mut (dyn AsyncWrite + Unpin)| {
                to.write_all(bytes).await?;
                to.shutdown().await
            };
            let all = tokio::join!(
                send(&there, &mut client_writes),
                send(&back, &mut workload_writes),
                workload_reads.read_to_end(&mut came_there),
                client_reads.read_to_end(&mut came_back),
            );
            all.0.expect("it is written");
            all.1.expect("it is written");
            assert!(came_there == there && came_back == back, "room for {room}");
        }
    }

    #[tokio::test]
    async fn a_side_that_has_ended_still_hears() {
        let (mut client, mut workload) = joined(16);
        client.write_all(b"all I have").await.expect("is written");
        client.shutdown().await.expect("is said");
        let mut came = Vec::new();
        workload.read_to_end(&mut came).await.expect("it ends");
        assert_eq!(came, b"all I have");
        workload.write_all(b"thank you").await.expect("is written");
        drop(workload);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("it ends");
        assert_eq!(answer, b"thank you");
    }

    #[tokio::test]
    async fn an_idle_way_keeps_nothing() {
        let (mut client, one) = duplex(4);
        let (mut other, mut workload) = duplex(4);
        let (mut one, _) = split(one);
        let mut way = Way::default();
        client.write_all(b"long").await.expect("is written");
        let mut step = async || {
            poll_fn(|cx| Poll::Ready(way.poll(Pin::new(&mut one), Pin::new(&mut other), cx))).await
        };
        assert!(step().await.is_pending());
        client.write_all(b"er!!").await.expect("is written");
        assert!(step().await.is_pending());
        let mut came = [0; 8];
        workload.read_exact(&mut came[..4]).await.expect("it comes");
        assert!(step().await.is_pending());
        workload.read_exact(&mut came[4..]).await.expect("it comes");
        assert_eq!(&came, b"longer!!");
        assert!(step().await.is_pending());
        assert_eq!((way.kept.capacity(), way.at), (0, 0));
    }
}
