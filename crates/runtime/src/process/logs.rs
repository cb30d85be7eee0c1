//! What an instance writes, line by line, to the platform's logs.
//!
//! A line belongs to an invocation when the instance worked on exactly one as it was read.

use std::sync::Arc;

use bollard::container::LogOutput;
use futures_util::StreamExt;
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::instance::Instance;
use crate::{
    container::Output,
    host::{LogLine, LogStream},
    lines::Lines,
    pool::Context,
};

/// Reads a pipe to its end.
pub(super) async fn read(
    ctx: Arc<Context>,
    instance: Arc<Instance>,
    mut pipe: pipe::Receiver,
    stream: LogStream,
) {
    let limit = ctx.limits.log_line.as_usize();
    let (mut lines, mut whole) = (Lines::default(), Vec::new());
    let mut chunk = vec![0; 8 << 10];
    while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
        lines.push(&chunk[..length], limit, &mut whole);
        for text in whole.drain(..) {
            log(&ctx, &instance, stream, text);
        }
    }
    if let Some(text) = lines.finish() {
        log(&ctx, &instance, stream, text);
    }
}

/// Reads what a container writes to its end.
pub(super) async fn read_container(ctx: Arc<Context>, instance: Arc<Instance>, mut output: Output) {
    let limit = ctx.limits.log_line.as_usize();
    let (mut out, mut err, mut whole) = (Lines::default(), Lines::default(), Vec::new());
    while let Some(Ok(piece)) = output.next().await {
        let (lines, stream, bytes) = match piece {
            LogOutput::StdErr { message } => (&mut err, LogStream::Stderr, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                (&mut out, LogStream::Stdout, message)
            }
            LogOutput::StdIn { .. } => continue,
        };
        lines.push(&bytes, limit, &mut whole);
        for text in whole.drain(..) {
            log(&ctx, &instance, stream, text);
        }
    }
    for (mut lines, stream) in [(out, LogStream::Stdout), (err, LogStream::Stderr)] {
        if let Some(text) = lines.finish() {
            log(&ctx, &instance, stream, text);
        }
    }
}

/// Passes one line on.
pub(super) fn log(ctx: &Context, instance: &Instance, stream: LogStream, text: String) {
    if stream == LogStream::Stderr {
        instance.remember(&text);
    }
    let presence = &instance.presence;
    let working = match stream {
        LogStream::Platform => None,
        LogStream::Stdout | LogStream::Stderr => presence.only(),
    };
    ctx.host.log(LogLine {
        time: ctx.clock.now(),
        app: presence.app.clone(),
        workload: presence.workload.clone(),
        instance: presence.instance,
        invocation: working.as_ref().map(|w| w.0.id),
        trace: working.as_ref().map(|w| w.0.trace.trace),
        stream,
        text,
    });
}
