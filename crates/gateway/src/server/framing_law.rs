//! What holds for all bytes of a connection: wherever [`Framing`] sees no mistake, a second reader (httparse, with hyper's
//! rules for bodies) finds the same requests ending in the same places.
//!
//! Called by the fuzz target (`cargo xtask fuzz framing`) and by a test that replays the corpus.

use super::framing::{Framing, Misframed};

/// The longest line of a head, here.
const LONGEST: usize = 4096;

/// # Panics
/// When two readings differ.
pub(crate) fn law(bytes: &[u8]) {
    let whole = read(bytes, bytes.len().max(1));
    for step in [1, 2, 7] {
        assert_eq!(read(bytes, step), whole, "in pieces of {step}");
    }
    let ends = ends(bytes);
    let Ok((heads, between)) = whole else {
        return agree_before(bytes, &whole.expect_err("it is misframed"), &ends);
    };
    let (ends, refused) = ends;
    assert!(ends.len() <= heads as usize, "a request that was not seen");
    if between && !refused {
        assert_eq!(ends.len(), heads as usize, "requests end elsewhere");
    }
    let mut framing = Framing::new(LONGEST);
    let mut at = 0;
    for (n, end) in ends.into_iter().enumerate() {
        framing.read(&bytes[at..end]).expect("it was read before");
        assert!(framing.is_between(), "request {n} ends elsewhere");
        assert_eq!(framing.heads() as usize, n + 1);
        at = end;
    }
}

/// What is before the mistake is read the same by both.
fn agree_before(bytes: &[u8], misframed: &(u32, bool), (ends, _): &(Vec<usize>, bool)) {
    let whole = misframed.0.saturating_sub(1) as usize;
    let mut framing = Framing::new(LONGEST);
    let mut at = 0;
    for (n, &end) in ends.iter().take(whole).enumerate() {
        framing
            .read(&bytes[at..end])
            .expect("the mistake comes later");
        assert!(framing.is_between() && framing.heads() as usize == n + 1);
        at = end;
    }
}

/// Heads and whether all is whole, or the request with a mistake and whether that is in its body.
fn read(bytes: &[u8], step: usize) -> Result<(u32, bool), (u32, bool)> {
    let mut framing = Framing::new(LONGEST);
    for piece in bytes.chunks(step) {
        let place = |misframed: Misframed| {
            assert!(misframed.at <= piece.len());
            (misframed.request, misframed.in_body)
        };
        framing.read(piece).map_err(place)?;
    }
    Ok((framing.heads(), framing.is_between()))
}

/// Where requests end as hyper has it, and whether it refuses what comes then.
fn ends(bytes: &[u8]) -> (Vec<usize>, bool) {
    let (mut ends, mut at) = (Vec::new(), 0);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(&bytes[at..]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return (ends, false),
            Err(_) => return (ends, true),
        };
        let body = &bytes[at + length..];
        let length = length
            + match body_of(&request) {
                Some(Body::Length(length)) if length <= body.len() as u64 => length as usize,
                Some(Body::Length(_)) => return (ends, false),
                Some(Body::Chunked) => match chunks(body) {
                    Some(Some(length)) => length,
                    Some(None) => return (ends, false),
                    None => return (ends, true),
                },
                None => return (ends, true),
            };
        at += length;
        ends.push(at);
    }
}

enum Body {
    Length(u64),
    Chunked,
}

/// As hyper reads it: the last coding decides, chunks win over lengths, equal lengths are one. `None`: refused.
fn body_of(request: &httparse::Request<'_, '_>) -> Option<Body> {
    let (mut length, mut coded, mut chunked) = (None, false, false);
    for header in request.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or("?").trim();
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if request.version == Some(0) {
                return None;
            }
            coded = true;
            let last = value.rsplit(',').next()?.trim();
            chunked = last.eq_ignore_ascii_case("chunked");
        } else if header.name.eq_ignore_ascii_case("content-length") && !coded {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let number: u64 = digits.then(|| value.parse().ok())??;
            if length.is_some_and(|before| before != number) {
                return None;
            }
            length = Some(number);
        }
    }
    match (coded, chunked) {
        (true, true) => Some(Body::Chunked),
        (true, false) => None,
        (false, _) => Some(Body::Length(length.unwrap_or(0))),
    }
}

/// How long a chunked body is; the inner `None` when more must come, the outer when it is refused.
fn chunks(bytes: &[u8]) -> Option<Option<usize>> {
    let mut at = 0;
    loop {
        let (used, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Some(None),
            Err(_) => return None,
        };
        at += used;
        if size == 0 {
            break;
        }
        let Some(end) = usize::try_from(size)
            .ok()
            .and_then(|size| at.checked_add(size))
        else {
            return Some(None);
        };
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => at = end + 2,
            Some(_) => return None,
            None => return Some(None),
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    match httparse::parse_headers(&bytes[at..], &mut headers) {
        Ok(httparse::Status::Complete((length, _))) => Some(Some(at + length)),
        Ok(httparse::Status::Partial) => Some(None),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("framing", law);
    }
}
