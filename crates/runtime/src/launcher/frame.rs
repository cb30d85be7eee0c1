//! The launcher's wire: length-limited JSON frames over a Unix stream, with file descriptors beside them.
//!
//! A frame's descriptors travel with its first bytes, so they are always here before the frame is whole; they are
//! kept in order, and each frame says how many are its own.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    command::{Command, Exit, Signal},
    limits::Enforcement,
};

/// The largest frame: more than Linux takes as arguments and environment of one program by default.
pub(super) const MAX_FRAME: usize = 4 << 20;

/// The most descriptors that may wait for their frames.
const MAX_FDS: usize = 64;

/// From the server to the launcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    Spawn {
        id: u64,
        command: Command,
    },
    /// Makes the instance `id` by a fork of `template`. Of the command, environment, folder and limits count.
    Fork {
        id: u64,
        template: u64,
        command: Command,
    },
    /// Makes an instance of the template `id` itself.
    Assign {
        id: u64,
        command: Command,
    },
    Signal {
        id: u64,
        signal: Signal,
    },
}

/// From the launcher to the server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Say {
    Ready {
        enforcement: Enforcement,
    },
    /// Followed by two descriptors: standard output and standard error.
    Started {
        id: u64,
        pid: u32,
    },
    /// A template can be used from now on.
    Warm {
        id: u64,
    },
    /// A template has become an instance.
    Assigned {
        id: u64,
    },
    Failed {
        id: u64,
        missing: bool,
        reason: String,
    },
    Exited {
        id: u64,
        exit: Exit,
    },
}

/// A frame's bytes.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > MAX_FRAME {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Sends one frame with its descriptors.
pub(super) fn send(
    mut stream: &UnixStream,
    frame: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(
            stream,
            &[IoSlice::new(frame)],
            &mut control,
            SendFlags::empty(),
        )
    })?;
    stream.write_all(&frame[sent..])
}

/// The receiving end of a socket, with what has arrived and was not yet asked for.
pub(super) struct Receiver {
    stream: UnixStream,
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Receiver {
    pub(super) const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
            fds: VecDeque::new(),
        }
    }

    pub(super) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Waits for bytes; `false` when the other side is gone.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut chunk)];
            rustix::net::recvmsg(&self.stream, &mut parts, &mut control, close_on_exec())
        });
        let got = match got {
            // The other side ended with something of ours unread.
            Err(rustix::io::Errno::CONNRESET) => return Ok(false),
            got => got?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend_from_slice(&chunk[..got.bytes]);
        if self.bytes.len() > MAX_FRAME + 4 + chunk.len() || self.fds.len() > MAX_FDS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(got.bytes > 0)
    }

    /// The next frame, if it is whole.
    pub(super) fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(head) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(frame) = self.bytes.get(4..4 + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(frame)?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }

    /// The oldest descriptor that no frame has claimed.
    pub(super) fn take_fd(&mut self) -> io::Result<OwnedFd> {
        self.fds
            .pop_front()
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(target_os = "linux")]
const fn close_on_exec() -> RecvFlags {
    RecvFlags::CMSG_CLOEXEC
}

#[cfg(not(target_os = "linux"))]
const fn close_on_exec() -> RecvFlags {
    RecvFlags::empty()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn frames_keep_their_order_and_their_descriptors() {
        let (left, right) = UnixStream::pair().expect("a pair");
        let (reader, _writer) = io::pipe().expect("a pipe");
        let mut receiver = Receiver::new(right);
        for (id, fds) in [(1, vec![]), (2, vec![reader.as_fd(), reader.as_fd()])] {
            let frame = encode(&Say::Started { id, pid: 7 }).expect("small");
            send(&left, &frame, &fds).expect("room");
        }
        let mut ids = Vec::new();
        while ids.len() < 2 {
            assert!(receiver.fill().expect("open"));
            while let Some(Say::Started { id, .. }) = receiver.take().expect("well formed") {
                ids.push(id);
            }
        }
        assert_eq!(ids, [1, 2]);
        assert!(receiver.take_fd().is_ok() && receiver.take_fd().is_ok());
        assert!(receiver.take_fd().is_err());
        drop(left);
        assert!(!receiver.fill().expect("closed is no error"));
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_it_is_read() {
        let (left, right) = UnixStream::pair().expect("a pair");
        (&left).write_all(&[0xff; 8]).expect("room");
        let mut receiver = Receiver::new(right);
        receiver.fill().expect("open");
        assert!(receiver.take::<Say>().is_err());
        assert!(encode(&"x".repeat(MAX_FRAME)).is_err());
    }
}
