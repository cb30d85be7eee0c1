//! What is a request, where it ends, and what is found wrong in it, at once and byte by byte.

use super::*;

/// What is read of `wire`, the same whether it comes at once or byte by byte.
fn read(wire: &str) -> Result<(u32, bool), (u32, bool)> {
    let whole = {
        let mut framing = Framing::new(8192);
        let read = framing.read(wire.as_bytes());
        read.map(|()| (framing.heads(), framing.is_between()))
    };
    let mut framing = Framing::new(8192);
    let mut single = Ok(());
    for byte in wire.bytes() {
        single = single.and_then(|()| framing.read(&[byte]));
    }
    let single = single.map(|()| (framing.heads(), framing.is_between()));
    let place = |misframed: Misframed| (misframed.request, misframed.in_body);
    let (whole, single) = (whole.map_err(place), single.map_err(place));
    assert_eq!(whole, single, "{wire:?}");
    whole
}

#[test]
fn requests_end_where_they_say() {
    for (wire, heads, between) in [
        ("", 0, true),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1, true),
        ("\r\n\r\nGET / HTTP/1.0\r\n\r\n", 1, true),
        ("GET / HTTP/1.1\r\nHost", 0, false),
        (
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            2,
            true,
        ),
        ("POST / HTTP/1.1\r\ncontent-length:3 \r\n\r\nab", 1, false),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5 ;a=\"b\"\r\nGET /\r\n0\r\nX: y\r\n\r\n",
            1,
            true,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n000a\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            2,
            true,
        ),
    ] {
        assert_eq!(read(wire), Ok((heads, between)), "{wire:?}");
    }
}

#[test]
fn what_could_be_read_differently_is_found() {
    for head in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content_Length: 3\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Content-Length : 3\r\n",
        "X: a\r\n folded\r\n",
        "X: a\nY: b\r\n",
        ": a\r\n",
        "no colon\r\n",
    ] {
        let wire = format!("POST / HTTP/1.1\r\n{head}\r\nabc");
        assert_eq!(read(&wire), Err((1, false)), "{head:?}");
    }
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET /#a HTTP/1.1",
        "GET /",
        "GET / HTTP/2.0",
        "GET / HTTP/1.1\nHost: a",
        "\u{1}",
    ] {
        assert_eq!(
            read(&format!("{line}\r\n\r\n")),
            Err((1, false)),
            "{line:?}"
        );
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(old), Err((1, false)));
}

#[test]
fn bad_chunks_are_found_in_the_body_that_they_are_in() {
    for body in [
        "g\r\n",
        "\r\n",
        "3 \r\nabc\r\n",
        "0x3\r\nabc\r\n",
        "-1\r\n",
        "3\nabc\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "3;\u{1}\r\nabc\r\n",
        "ffffffffffffffff1\r\n",
        "8000000000000000\r\n",
        "0\r\nContent-Length: 3\r\n\r\n",
        "0\r\nX: a\nY: b\r\n\r\n",
        "0\r\n folded\r\n\r\n",
    ] {
        let wire = format!(
            "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        );
        assert_eq!(read(&wire), Err((2, true)), "{body:?}");
    }
}

#[test]
fn lines_are_bounded_and_an_idle_connection_keeps_none() {
    let mut framing = Framing::new(100);
    assert_eq!(framing.read(b"GET / HTTP/1.1\r\nX: "), Ok(()));
    let lost = framing.read(&[b'x'; 200]).expect_err("is too long");
    assert_eq!((lost.request, lost.in_body), (1, false));
    let mut framing = Framing::new(100);
    assert_eq!(framing.read(b"GET / HTTP/1.1\r\nX: a\r\n\r\n"), Ok(()));
    assert_eq!(
        (framing.partial.capacity(), framing.is_between()),
        (0, true)
    );
}

#[test]
fn after_the_first_mistake_nothing_is_looked_at() {
    let mut framing = Framing::new(100);
    let lost = framing
        .read(b"GET / HTTP/1.1\r\n\r\n\x81\x05")
        .expect_err("no method");
    assert_eq!((lost.request, lost.at), (2, 18));
    assert_eq!(framing.read(b"\n\n\n"), Ok(()));
}
