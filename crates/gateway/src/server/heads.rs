//! Whether an HTTP/2 client is in the middle of a request's head: its fields may come in many frames, and until the last
//! of them nothing else may be said on the connection (RFC 9113 §4.3), so a head that never ends stops it.
//!
//! Looks at nothing but the frames' own heads; what is wrong with them is hyper's business.

use super::connection::PREFACE;

/// Length, type, flags and stream (RFC 9113 §4.1).
const FRAME_HEAD: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// What was read of the heads on a connection.
pub(super) struct Heads {
    frame: [u8; FRAME_HEAD],
    /// Bytes of `frame` that have come.
    have: usize,
    /// Bytes until the next frame begins.
    left: usize,
    is_open: bool,
    /// The head ends with the frame that is being read.
    is_last: bool,
    begun: u64,
}

impl Heads {
    /// A connection of which nothing was read.
    pub(super) const fn new() -> Self {
        Self {
            frame: [0; FRAME_HEAD],
            have: 0,
            left: PREFACE.len(),
            is_open: false,
            is_last: false,
            begun: 0,
        }
    }

    /// Reads on.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        loop {
            let passed = self.left.min(bytes.len());
            self.left -= passed;
            if self.left > 0 {
                return;
            }
            self.is_open &= !std::mem::take(&mut self.is_last);
            bytes = &bytes[passed..];
            let taken = (FRAME_HEAD - self.have).min(bytes.len());
            self.frame[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            if self.have < FRAME_HEAD {
                return;
            }
            bytes = &bytes[taken..];
            self.begin_frame();
        }
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.frame;
        self.have = 0;
        self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
        if kind == HEADERS && !self.is_open {
            self.is_open = true;
            self.begun += 1;
        }
        self.is_last = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0;
    }

    /// The number of the head that has begun and not ended.
    pub(super) fn open(&self) -> Option<u64> {
        self.is_open.then_some(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u8 = 0;
    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEAD + usize::from(length), 0xff);
        frame
    }

    /// What is open after `frames`, however they are cut.
    fn open(frames: &[Vec<u8>]) -> Option<u64> {
        let wire = [PREFACE, &frames.concat()].concat();
        let after = |size| {
            let mut heads = Heads::new();
            wire.chunks(size).for_each(|piece| heads.read(piece));
            heads.open()
        };
        let whole = after(wire.len());
        for size in 1..wire.len() {
            assert_eq!(after(size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn a_head_is_open_until_its_last_frame_has_come() {
        let settings = || frame(SETTINGS, 0, 0);
        let whole = || frame(HEADERS, END_HEADERS, 5);
        let begun = || frame(HEADERS, 0, 5);
        let more = || frame(CONTINUATION, 0, 0);
        let last = || frame(CONTINUATION, END_HEADERS, 0);
        assert_eq!(open(&[settings()]), None);
        assert_eq!(
            open(&[settings(), whole(), frame(DATA, END_HEADERS, 9)]),
            None
        );
        assert_eq!(open(&[begun()]), Some(1));
        assert_eq!(open(&[begun(), more(), more()]), Some(1));
        assert_eq!(open(&[begun(), more(), last()]), None);
        assert_eq!(open(&[begun(), last(), whole(), begun()]), Some(3));
        let mut cut = whole();
        cut.pop();
        assert_eq!(open(&[whole(), cut]), Some(2), "a frame is cut short");
        assert_eq!(open(&[whole()[..8].to_vec()]), None, "no frame has begun");
    }
}
