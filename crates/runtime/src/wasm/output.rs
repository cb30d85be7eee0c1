//! What a guest prints, as log lines of its invocation.
//!
//! Bounded three ways: a line is cut at `Limits::log_line`, at most one unfinished line per stream is held, and a
//! budget of bytes refills slowly, so that a guest that floods is muted, and says so, instead of filling a disk.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use model::{ByteSize, Invocation};
use parking_lot::Mutex;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::{Pool, flood::Verdict, run::Run};
use crate::host::{LogLine, LogStream};

/// Bytes that an invocation may print at once.
const BURST: ByteSize = ByteSize::mib(1);
/// Bytes that it may print per second beyond that.
const REFILL: ByteSize = ByteSize::kib(64);
/// What a line costs besides its bytes.
const PER_LINE: u64 = 64;
/// Bytes that a guest may write at once.
const CHUNK: usize = 64 << 10;

/// The output of one invocation.
pub(super) struct Output {
    stdout: Line,
    stderr: Line,
    budget: u64,
    refilled: Instant,
    dropped: u64,
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    cut: bool,
}

/// Lines on their way out, collected so that no lock is held while the platform takes them.
type Lines = Vec<(LogStream, String)>;

impl Output {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            stdout: Line::default(),
            stderr: Line::default(),
            budget: BURST.0,
            refilled: now,
            dropped: 0,
        }
    }

    /// Takes what a guest wrote and gives back the lines that are complete.
    fn write(&mut self, stream: LogStream, mut bytes: &[u8], most: usize, now: Instant) -> Lines {
        let mut lines = Lines::new();
        self.refill(now);
        while !bytes.is_empty() {
            let end = bytes.iter().position(|&b| b == b'\n');
            let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
            bytes = rest;
            let cost = part.len() as u64 + PER_LINE * u64::from(end.is_some());
            if cost > self.budget {
                self.mute(part.len(), &mut lines);
                continue;
            }
            self.budget -= cost;
            self.unmute(&mut lines);
            let line = match stream {
                LogStream::Stderr => &mut self.stderr,
                LogStream::Stdout | LogStream::Platform => &mut self.stdout,
            };
            line.push(part.strip_suffix(b"\n").unwrap_or(part), most);
            if end.is_some() {
                lines.push((stream, line.take(most)));
            }
        }
        lines
    }

    /// What is left when the guest is gone.
    fn finish(&mut self, most: usize) -> Lines {
        let mut lines = Lines::new();
        for (stream, line) in [
            (LogStream::Stdout, &mut self.stdout),
            (LogStream::Stderr, &mut self.stderr),
        ] {
            if !line.bytes.is_empty() {
                lines.push((stream, line.take(most)));
            }
        }
        self.unmute(&mut lines);
        lines
    }

    fn refill(&mut self, now: Instant) {
        let millis = now.saturating_duration_since(self.refilled).as_millis();
        let earned = u64::try_from(millis)
            .unwrap_or(u64::MAX)
            .saturating_mul(REFILL.0)
            / 1000;
        if earned > 0 {
            self.budget = self.budget.saturating_add(earned).min(BURST.0);
            self.refilled = now;
        }
    }

    fn mute(&mut self, bytes: usize, lines: &mut Lines) {
        if self.dropped == 0 {
            let text = format!(
                "output is dropped from here on: an invocation may print {BURST} at once and {REFILL} per second after that"
            );
            lines.push((LogStream::Platform, text));
        }
        self.dropped += bytes as u64;
    }

    fn unmute(&mut self, lines: &mut Lines) {
        if self.dropped > 0 {
            let text = format!("{} bytes of output were dropped", self.dropped);
            lines.push((LogStream::Platform, text));
            self.dropped = 0;
        }
    }
}

impl Line {
    fn push(&mut self, part: &[u8], most: usize) {
        let room = most.saturating_sub(self.bytes.len());
        self.cut |= part.len() > room;
        self.bytes.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn take(&mut self, most: usize) -> String {
        let bytes = std::mem::take(&mut self.bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        if std::mem::take(&mut self.cut) {
            text.push_str(&format!(" … [cut at {}]", ByteSize(most as u64)));
        }
        text
    }
}

impl Run {
    /// Takes what its guest printed.
    pub(super) fn print(&self, stream: LogStream, bytes: &[u8]) {
        let most = self.pool.ctx.limits.log_line.as_usize();
        let now = self.pool.ctx.clock.monotonic();
        let lines = self.output.lock().write(stream, bytes, most, now);
        self.emit(lines);
    }

    /// Sends what is left of the output; the guest is gone.
    pub(super) fn flush_output(&self) {
        let most = self.pool.ctx.limits.log_line.as_usize();
        let lines = self.output.lock().finish(most);
        self.emit(lines);
    }

    /// Logs what the platform has to say about the invocation.
    pub(super) fn say(&self, text: String) {
        self.emit(vec![(LogStream::Platform, text)]);
    }

    fn emit(&self, lines: Lines) {
        for (stream, text) in lines {
            let now = self.pool.ctx.clock.monotonic();
            let platform = |said| self.pool.log(None, LogStream::Platform, said);
            match self.pool.flood.judge(text.len(), now) {
                Verdict::Log => {}
                Verdict::LogAfter(said) => platform(said),
                Verdict::Begin(said) => {
                    platform(said);
                    continue;
                }
                Verdict::Drop => continue,
            }
            self.pool.log(Some(&self.invocation), stream, text);
        }
    }
}

impl Pool {
    /// Logs a line of this workload.
    pub(super) fn log(&self, of: Option<&Invocation>, stream: LogStream, text: String) {
        self.ctx.host.log(LogLine {
            time: self.ctx.clock.now(),
            app: self.spec.app.clone(),
            workload: self.spec.workload.name.clone(),
            instance: self.presence.instance,
            invocation: of.map(|i| i.id),
            trace: of.map(|i| i.trace.trace),
            stream,
            text,
        });
    }
}

/// The request that what an instance prints belongs to.
pub(super) struct Printing(Mutex<Arc<Run>>);

impl Printing {
    pub(super) fn new(run: &Arc<Run>) -> Self {
        Self(Mutex::new(Arc::clone(run)))
    }

    /// From here on it belongs to `run`.
    pub(super) fn goes_to(&self, run: &Arc<Run>) {
        *self.0.lock() = Arc::clone(run);
    }
}

/// A guest's standard output or error.
pub(super) struct Printer {
    printing: Arc<Printing>,
    stream: LogStream,
}

impl Printer {
    pub(super) fn new(printing: &Arc<Printing>, stream: LogStream) -> Self {
        Self {
            printing: Arc::clone(printing),
            stream,
        }
    }
}

impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.printing.0.lock().print(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::Clock;

    use super::*;

    fn texts(lines: &Lines) -> Vec<&str> {
        lines.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn lines_are_joined_split_and_cut() {
        let now = Clock::system().monotonic();
        let mut output = Output::new(now);
        assert!(output.write(LogStream::Stdout, b"one", 10, now).is_empty());
        let lines = output.write(LogStream::Stdout, b" two\r\n\n0123456789abc", 10, now);
        assert_eq!(texts(&lines), ["one two", ""]);
        assert!(output.write(LogStream::Stderr, b"else", 10, now).is_empty());
        let lines = output.write(LogStream::Stdout, b"def\nnext\n", 10, now);
        assert_eq!(texts(&lines), ["0123456789 … [cut at 10B]", "next"]);
        assert_eq!(texts(&output.finish(10)), ["else"]);
    }

    #[test]
    fn a_flood_is_muted_and_says_how_much_was_lost() {
        let now = Clock::system().monotonic();
        let mut output = Output::new(now);
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let mut lines = Lines::new();
        for _ in 0..2000 {
            lines.extend(output.write(LogStream::Stdout, &line, 2048, now));
        }
        assert!(lines.len() < 1100, "{}", lines.len());
        assert!(
            lines
                .last()
                .is_some_and(|(_, text)| text.starts_with("output is dropped"))
        );
        let later = now + Duration::from_secs(1);
        let lines = output.write(LogStream::Stdout, &line, 2048, later);
        assert!(
            lines[0].1.ends_with("bytes of output were dropped"),
            "{:?}",
            lines[0]
        );
        assert_eq!(lines.len(), 2);
    }
}
