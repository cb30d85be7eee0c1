//! Bodies, in both directions.

use wasip2::{
    clocks::monotonic_clock,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::StreamError,
};

use crate::{answer, write_all};

const CHUNK: u64 = 64 << 10;

/// Sends back every chunk as it comes.
pub fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let body = begin(out, &[]);
    let stream = body.write().expect("the first stream");
    for_each_chunk(request, |chunk| stream.blocking_write_and_flush_all(chunk));
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was announced");
}

/// Counts the bytes of the request.
pub fn count(request: &IncomingRequest, out: ResponseOutparam) {
    let mut total = 0;
    for_each_chunk(request, |chunk| total += chunk.len());
    answer(out, &format!("{total}\n"));
}

/// All of the request's body.
pub fn read_all(request: &IncomingRequest) -> Vec<u8> {
    let mut all = Vec::new();
    for_each_chunk(request, |chunk| all.extend_from_slice(chunk));
    all
}

/// So many bytes, as fast as they are taken.
pub fn stream(out: ResponseOutparam, bytes: u64) {
    let body = begin(out, &[]);
    let stream = body.write().expect("the first stream");
    let chunk = vec![b'x'; CHUNK as usize];
    let mut left = bytes;
    while left > 0 {
        let room = match stream.check_write() {
            Ok(0) => {
                stream.subscribe().block();
                continue;
            }
            Ok(room) => room,
            Err(_) => return println!("the reader went away"),
        };
        let now = room.min(left).min(CHUNK);
        stream.write(&chunk[..now as usize]).expect("there was room");
        left -= now;
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was announced");
}

/// Five bytes at once, five more after so many milliseconds.
pub fn paused(out: ResponseOutparam, millis: u64) {
    let body = begin(out, &[]);
    let stream = body.write().expect("the first stream");
    stream.blocking_write_and_flush(b"first").expect("is read");
    monotonic_clock::subscribe_duration(millis * 1_000_000).block();
    stream.blocking_write_and_flush(b"later").expect("is read");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was announced");
}

/// Traps after a first chunk.
pub fn trap_late(out: ResponseOutparam) {
    let body = begin(out, &[]);
    let stream = body.write().expect("the first stream");
    stream.blocking_write_and_flush(b"first").expect("is read");
    monotonic_clock::subscribe_duration(1_000_000).block();
    panic!("too late");
}

/// Drops a body that it began.
pub fn abandon(out: ResponseOutparam) {
    let body = begin(out, &[]);
    write_all(&body, b"half of").expect("the body takes it");
    drop(body);
}

/// Announces more than it sends, by not sending a body at all.
pub fn promise(out: ResponseOutparam) {
    let fields = Fields::new();
    fields.append("content-length", b"5").expect("a header");
    ResponseOutparam::set(out, Ok(OutgoingResponse::new(fields)));
}

/// Works on after the last byte of the length that it announced.
pub fn afterwards(out: ResponseOutparam, millis: u64) {
    let body = begin(out, &[("content-length", "5")]);
    let stream = body.write().expect("the first stream");
    stream.blocking_write_and_flush(b"hello").expect("is read");
    drop(stream);
    OutgoingBody::finish(body, None).expect("the announced length");
    monotonic_clock::subscribe_duration(millis * 1_000_000).block();
    println!("still here");
}

fn begin(out: ResponseOutparam, headers: &[(&str, &str)]) -> OutgoingBody {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).expect("a header");
    }
    let response = OutgoingResponse::new(fields);
    let body = response.body().expect("the first body");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn for_each_chunk(request: &IncomingRequest, mut take: impl FnMut(&[u8])) {
    let body = request.consume().expect("the first reader");
    let stream = body.stream().expect("the first stream");
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(chunk) => take(&chunk),
            Err(StreamError::Closed) => return,
            Err(StreamError::LastOperationFailed(error)) => {
                panic!("reading: {}", error.to_debug_string())
            }
        }
    }
}

trait WriteAll {
    fn blocking_write_and_flush_all(&self, bytes: &[u8]);
}

impl WriteAll for wasip2::io::streams::OutputStream {
    fn blocking_write_and_flush_all(&self, bytes: &[u8]) {
        // The interface takes at most 4096 bytes at a time.
        for part in bytes.chunks(4096) {
            self.blocking_write_and_flush(part).expect("is read");
        }
    }
}
