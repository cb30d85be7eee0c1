//! Requests that two servers in a row could read differently, as bytes on a socket: refused with 400, the connection
//! closed, and nothing of what comes after them served.

use crate::{
    conversation::Conversation,
    house::House,
    upstream::{Upstream, everything},
};

/// What is smuggled behind each of them: if it is ever served, the gateway was fooled.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends `wire` and the smuggled request, and gives back everything that comes until the gateway closes.
async fn answers(house: &House, wire: &str) -> String {
    let mut conversation = Conversation::with(house.address()).await;
    assert!(
        conversation
            .try_write(format!("{wire}{SMUGGLED}").as_bytes())
            .await
    );
    conversation.rest().await
}

/// Heads that are ambiguous, each with what would be its body.
const HEADS: &[&str] = &[
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\u{0}\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX y: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "GET /\r\n\r\n",
    "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
];

#[tokio::test]
async fn heads_that_frame_or_address_a_request_in_two_ways_are_the_last_of_their_connection() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    for head in HEADS {
        let all = answers(&house, head).await;
        assert!(all.starts_with("HTTP/1.1 400 "), "{head:?}: {all}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{head:?}: {all}");
        assert!(all.contains("connection: close"), "{head:?}: {all}");
        // The same behind a request that is served: that is answered, and nothing after the refusal.
        let behind = format!("GET /first HTTP/1.1\r\nHost: a\r\n\r\n{head}");
        let all = answers(&house, &behind).await;
        assert!(all.contains("GET /first "), "{head:?}: {all}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 2, "{head:?}: {all}");
        assert_eq!(all.matches("HTTP/1.1 400 ").count(), 1, "{head:?}: {all}");
    }
    let seen = upstream.seen();
    assert!(seen.iter().all(|seen| seen.uri == "/first"), "{seen:?}");
    assert_eq!(seen.len(), HEADS.len());
}

#[tokio::test]
async fn chunks_that_end_in_two_places_break_their_request_off_and_nothing_after_it_is_served() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\u{1}\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "0\r\nX: a\nY: b\r\n\r\n",
        "0\r\nX: a\rY: b\r\n\r\n",
        "0\r\nX : a\r\n\r\n",
        "0\r\n X: a\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\n\n",
    ] {
        let wire =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let all = answers(&house, &wire).await;
        assert!(all.starts_with("HTTP/1.1 400 "), "{body:?}: {all}");
        assert!(all.contains("TG0211"), "{body:?}: {all}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{body:?}: {all}");
    }
    let seen = upstream.seen();
    assert!(seen.iter().all(|seen| seen.uri == "/"), "{seen:?}");
}

#[tokio::test]
async fn what_is_unusual_and_means_one_thing_passes() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    for (wire, body) in [
        ("\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x "),
        ("GET /x HTTP/1.1\r\nhOsT:a\t\r\nX:\r\n\r\n", "GET /x "),
        ("GET http://a/x HTTP/1.1\r\nHost: A\r\n\r\n", "GET /x "),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            "GET /x hi",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0002 ;a=\"b\"\r\nhi\r\n0\r\nX: y\r\n\r\n",
            "POST /x hi",
        ),
        (
            "GET /x?%23 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            "GET /x?%23 ",
        ),
    ] {
        let mut conversation = Conversation::with(house.address()).await;
        assert!(conversation.try_write(wire.as_bytes()).await);
        assert_eq!(conversation.answer().await.body, body, "{wire:?}");
        let next = conversation.ask("GET", "/next", &[]).await;
        assert_eq!(next.body, "GET /next ", "{wire:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_heard_although_the_client_goes_on_sending() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    assert!(conversation.try_write(head.as_bytes()).await);
    // Were the connection closed at once, the system would reset it for these, and the answer would be lost.
    for _ in 0..16 {
        conversation.try_write(&[b'x'; 16 << 10]).await;
    }
    assert_eq!(conversation.answer().await.status, 400);
    assert_eq!(upstream.seen().len(), 0);
}
