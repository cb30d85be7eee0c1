//! What holds for all bytes of a runtime client: they are read the same whole and in pieces, no body is longer than what
//! carried it, and what a body says survives being sent as chunks.
//!
//! Called by the fuzz target (`cargo xtask fuzz runtime_api`) and by a test that replays the corpus.

use bytes::{BufMut, Bytes, BytesMut};

use super::wire::{Chunks, Framing, Head, Malformed, take_head};

/// What came of a connection's bytes: the heads with their bodies, and how it ended.
type Seen = (Vec<(Head, Option<Bytes>)>, Option<Malformed>);

/// # Panics
/// When it does not hold.
pub(crate) fn law(bytes: &[u8]) {
    let whole = read(bytes, bytes.len().max(1));
    for step in [1, 3, 64] {
        assert_eq!(read(bytes, step), whole, "in pieces of {step}");
    }
    let bodies = whole.0.iter().filter_map(|(_, body)| body.as_ref());
    let carried: usize = bodies.clone().map(Bytes::len).sum();
    assert!(carried <= bytes.len(), "more came out than went in");
    for body in bodies {
        round_trip(body);
    }
}

fn round_trip(body: &Bytes) {
    let mut wire = BytesMut::new();
    for chunk in body.chunks(5) {
        wire.put_slice(format!("{:x};x\r\n", chunk.len()).as_bytes());
        wire.put_slice(chunk);
        wire.put_slice(b"\r\n");
    }
    wire.put_slice(b"0\r\n\r\n");
    let (mut chunks, mut output) = (Chunks::default(), BytesMut::new());
    assert_eq!(chunks.take(&mut wire, &mut output), Ok(true));
    assert!(output == *body && wire.is_empty(), "chunks changed a body");
}

/// Reads as a connection does: a head, its body, the next head.
fn read(bytes: &[u8], step: usize) -> Seen {
    let (mut input, mut all) = (BytesMut::new(), Vec::new());
    let mut open: Option<(Head, Chunks, BytesMut)> = None;
    for piece in bytes.chunks(step) {
        input.put_slice(piece);
        loop {
            match open.take() {
                None => match take_head(&mut input) {
                    Ok(Some(head)) => open = Some((head, Chunks::default(), BytesMut::new())),
                    Ok(None) => break,
                    Err(error) => return (all, Some(error)),
                },
                Some((head, mut chunks, mut body)) => {
                    let done = match head.framing {
                        Framing::Length(length) if length <= input.len() as u64 => {
                            let length = usize::try_from(length).expect("it is here");
                            body = input.split_to(length);
                            Ok(true)
                        }
                        Framing::Length(_) => Ok(false),
                        Framing::Chunked => chunks.take(&mut input, &mut body),
                    };
                    match done {
                        Ok(true) => all.push((head, Some(body.freeze()))),
                        Ok(false) => {
                            open = Some((head, chunks, body));
                            break;
                        }
                        Err(error) => {
                            all.push((head, None));
                            return (all, Some(error));
                        }
                    }
                }
            }
        }
    }
    (all, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("runtime_api", law);
    }
}
