//! What a server asks of its launcher, in order: written at once by who asks, who is a thread of requests and must not wait.
//! Where the socket is full, a thread writes what is left, for as long as anything is.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::net::SendFlags;

/// The server's way to its launcher.
pub(super) struct Outgoing {
    stream: UnixStream,
    queue: Mutex<Queue>,
}

/// What could not be written at once.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Vec<u8>>,
    /// A thread writes what waits.
    writing: bool,
    closed: bool,
}

impl Outgoing {
    pub(super) fn new(stream: UnixStream) -> Arc<Self> {
        Arc::new(Self {
            stream,
            queue: Mutex::default(),
        })
    }

    /// Sends a frame; `false` when nobody would read it.
    pub(super) fn send(self: &Arc<Self>, mut frame: Vec<u8>) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed {
            return false;
        }
        if !queue.writing && queue.waiting.is_empty() {
            match self.write_now(&frame) {
                Ok(written) if written == frame.len() => return true,
                Ok(written) => drop(frame.drain(..written)),
                Err(_) => return false,
            }
        }
        queue.waiting.push_back(frame);
        if !queue.writing {
            let this = Arc::clone(self);
            queue.writing = super::link::thread("launcher-out", move || this.write_all()).is_ok();
        }
        queue.writing
    }

    /// Tells the launcher that nothing more comes, when what waits is written.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        if !queue.writing {
            self.end();
        }
    }

    /// Writes as much as there is room for.
    fn write_now(&self, frame: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < frame.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.stream, &frame[written..], flags) {
                Ok(more) => written += more,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }

    fn write_all(&self) {
        while let Some(frame) = self.next() {
            if (&self.stream).write_all(&frame).is_err() {
                let mut queue = self.queue.lock();
                queue.waiting.clear();
                queue.closed = true;
            }
        }
    }

    /// What is to be written next; when there is nothing, who asks writes again.
    fn next(&self) -> Option<Vec<u8>> {
        let mut queue = self.queue.lock();
        let next = queue.waiting.pop_front();
        if next.is_none() {
            queue.writing = false;
            if queue.closed {
                self.end();
            }
        }
        next
    }

    fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_finds_no_room_is_written_later_and_in_order() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let outgoing = Outgoing::new(ours);
        let frames: Vec<Vec<u8>> = (0..64_u8).map(|n| vec![n; 64 << 10]).collect();
        for frame in &frames {
            assert!(outgoing.send(frame.clone()));
        }
        outgoing.close();
        assert!(!outgoing.send(vec![1]), "it is closed");
        let mut came = Vec::new();
        theirs.read_to_end(&mut came).expect("it ends");
        assert!(came == frames.concat());
    }

    #[test]
    fn a_launcher_that_is_gone_takes_nothing() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let outgoing = Outgoing::new(ours);
        assert!(outgoing.send(vec![1]));
        drop(theirs);
        assert!(!outgoing.send(vec![2]));
    }
}
