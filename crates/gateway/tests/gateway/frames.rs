//! HTTP/2 as frames on a socket: limits of streams, resets and header lists, and what may not be said there because it
//! would frame an HTTP/1.1 request for the workload.

use std::time::Duration;

use model::Limits;

use crate::{
    conversation::Conversation,
    house::{House, Wishes},
    upstream::{Upstream, everything},
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `GET http://a/`, as HPACK has it: three fields of the static table and a literal.
const GET: &[u8] = b"\x82\x86\x84\x41\x01a";

/// What makes it `POST`, in the place of its first field.
const POST: &[u8] = b"\x83";

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("is short")
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field that is in no table.
fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    let mut field = vec![0, u8::try_from(name.len()).expect("is short")];
    field.extend(name.as_bytes());
    field.push(u8::try_from(value.len()).expect("is short"));
    field.extend(value);
    field
}

/// A connection that has said hello.
async fn hello(house: &House) -> Conversation {
    let mut conversation = Conversation::with(house.address()).await;
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(SETTINGS, 0, 0, b""));
    assert!(conversation.try_write(&hello).await);
    conversation
}

/// The next frame of one of `kinds`: its kind, stream and payload.
async fn next(conversation: &mut Conversation, kinds: &[u8]) -> (u8, u32, Vec<u8>) {
    loop {
        let head = conversation.exactly(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = conversation.exactly(length as usize).await;
        if kinds.contains(&head[3]) {
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            return (head[3], stream, payload);
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

fn limits(limits: &mut gateway::ConnectionLimits) {
    limits.streams = 4;
    limits.resets = 8;
    limits.head_bytes = 16 << 10;
}

async fn silent() -> (Upstream, House) {
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let wishes = Wishes {
        connections: limits,
        ..Wishes::default()
    };
    let house = House::with(&everything(&upstream), wishes).await;
    (upstream, house)
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_one_by_one() {
    let (upstream, house) = silent().await;
    let mut conversation = hello(&house).await;
    let asked = (0..6_u32).flat_map(|n| frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, GET));
    assert!(conversation.try_write(&asked.collect::<Vec<_>>()).await);
    for stream in [9, 11] {
        let (_, refused, code) = next(&mut conversation, &[RST_STREAM]).await;
        assert_eq!((refused, number(&code)), (stream, REFUSED_STREAM));
    }
    assert!(upstream.seen().len() <= 4);
}

#[tokio::test]
async fn a_client_that_asks_and_takes_back_at_once_is_sent_away() {
    let (upstream, house) = silent().await;
    let mut conversation = hello(&house).await;
    for n in 0..2000_u32 {
        let stream = 2 * n + 1;
        let mut asked = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
        asked.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        if !conversation.try_write(&asked).await {
            break;
        }
    }
    let (_, _, payload) = next(&mut conversation, &[GOAWAY]).await;
    assert_eq!(number(&payload[4..8]), ENHANCE_YOUR_CALM);
    assert!(upstream.seen().len() < 2000, "most never ran");
}

#[tokio::test]
async fn a_client_that_makes_the_server_take_back_is_sent_away() {
    let (upstream, house) = silent().await;
    let mut conversation = hello(&house).await;
    // More room for the answer than there can be (RFC 9113 §6.9.1) is an error of the stream alone (CVE-2025-8671).
    let room = 0x7fff_ffff_u32.to_be_bytes();
    for n in 0..=8_u32 {
        let stream = 2 * n + 1;
        let mut asked = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
        asked.extend(frame(WINDOW_UPDATE, 0, stream, &room));
        assert!(conversation.try_write(&asked).await);
        let (kind, reset, payload) = next(&mut conversation, &[RST_STREAM, GOAWAY]).await;
        if n < 8 {
            assert_eq!((kind, reset), (RST_STREAM, stream));
            assert_eq!(number(&payload), FLOW_CONTROL_ERROR);
        } else {
            assert_eq!(kind, GOAWAY, "it was the ninth");
            assert_eq!(number(&payload[4..8]), ENHANCE_YOUR_CALM);
        }
    }
    assert!(upstream.seen().len() <= 8);
}

#[tokio::test]
async fn a_header_list_beyond_the_limit_is_refused_however_it_is_split() {
    let (upstream, house) = silent().await;
    let mut conversation = hello(&house).await;
    assert!(
        conversation
            .try_write(&frame(HEADERS, END_STREAM, 1, GET))
            .await
    );
    for n in 0..400_u32 {
        let fields: Vec<u8> = (0..64)
            .flat_map(|m| literal(&format!("x-{n}-{m}"), &[b'x'; 120]))
            .collect();
        let last = if n == 399 { END_HEADERS } else { 0 };
        if !conversation
            .try_write(&frame(CONTINUATION, last, 1, &fields))
            .await
        {
            break;
        }
    }
    let (kind, _, payload) = next(&mut conversation, &[HEADERS, RST_STREAM, GOAWAY]).await;
    // 431 of the static table is not there: whichever way it is said, no workload hears of it.
    match kind {
        HEADERS => assert!(!payload.starts_with(&[0x88]), "no 200"),
        RST_STREAM => assert_ne!(number(&payload), 0),
        _ => assert_ne!(number(&payload[4..8]), 0),
    }
    assert_eq!(upstream.seen().len(), 0);
}

/// As long as heads and silences in bodies may take where a test waits for them.
const SHORT: Duration = Duration::from_millis(200);

fn short() -> Limits {
    Limits {
        body_idle: SHORT,
        head_timeout: SHORT,
        ..Limits::default()
    }
}

/// Heads that do not end, as a client leaves them when it does nothing more: its last frame has no end, is cut short,
/// or comes while another request is under way.
fn endless_heads() -> [Vec<u8>; 4] {
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 1, GET);
    let cut = whole[..whole.len() - 1].to_vec();
    let begun = frame(HEADERS, END_STREAM, 1, GET);
    let continued = [begun.clone(), frame(CONTINUATION, 0, 1, b"")].concat();
    let second = [whole, frame(HEADERS, END_STREAM, 3, GET)].concat();
    [begun, cut, continued, second]
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection() {
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let wishes = Wishes {
        limits: short(),
        ..Wishes::default()
    };
    let house = House::with(&everything(&upstream), wishes).await;
    for head in endless_heads() {
        let mut conversation = hello(&house).await;
        assert!(conversation.try_write(&head).await);
        conversation.rest().await;
    }
    // One whose last frame trickles in byte by byte: what comes is no reason to wait longer.
    let mut conversation = hello(&house).await;
    let begun = frame(HEADERS, END_STREAM, 1, GET);
    assert!(conversation.try_write(&begun).await);
    let long = frame(CONTINUATION, END_HEADERS, 1, &[b'x'; 500]);
    let mut bytes = long.chunks(1);
    while !conversation.closes_within(SHORT / 10).await {
        let byte = bytes.next().expect("it closes before the head has come");
        conversation.try_write(byte).await;
    }
}

#[tokio::test]
async fn a_connection_outlives_the_time_of_a_head_between_heads() {
    let upstream = Upstream::echo().await;
    let wishes = Wishes {
        limits: short(),
        ..Wishes::default()
    };
    let house = House::with(&everything(&upstream), wishes).await;
    let mut idle = hello(&house).await;
    let whole = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
    assert!(idle.try_write(&whole(1)).await);
    next(&mut idle, &[HEADERS]).await;
    let mut endless = hello(&house).await;
    assert!(endless.try_write(&endless_heads()[0]).await);
    endless.rest().await;
    // What took the other one's time took none of this one's.
    assert!(idle.try_write(&frame(PING, 0, 0, b"are you?")).await);
    next(&mut idle, &[PING]).await;
    assert!(idle.try_write(&whole(3)).await);
    let (_, stream, _) = next(&mut idle, &[HEADERS]).await;
    assert_eq!(stream, 3);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_the_clients_timeout_and_its_place_is_free() {
    let upstream = Upstream::echo().await;
    let wishes = Wishes {
        limits: short(),
        connections: |limits| limits.streams = 1,
        ..Wishes::default()
    };
    let house = House::with(&everything(&upstream), wishes).await;
    let mut conversation = hello(&house).await;
    let post = [POST, &GET[1..]].concat();
    let asked = [
        frame(HEADERS, END_HEADERS, 1, &post),
        frame(DATA, 0, 1, b"abc"),
    ];
    assert!(conversation.try_write(&asked.concat()).await);
    let (_, _, problem) = next(&mut conversation, &[DATA]).await;
    let problem = String::from_utf8_lossy(&problem);
    assert!(
        problem.contains("\"status\":408") && problem.contains("TG0204"),
        "{problem}"
    );
    let (_, ended, _) = next(&mut conversation, &[RST_STREAM]).await;
    assert_eq!(ended, 1, "nobody waits for the rest of the body");
    let again = frame(HEADERS, END_STREAM | END_HEADERS, 3, GET);
    assert!(conversation.try_write(&again).await);
    let (_, stream, body) = next(&mut conversation, &[RST_STREAM, DATA]).await;
    assert_eq!((stream, &body[..]), (3, &b"GET / "[..]));
    house.until_idle("shop/web").await;
}

#[tokio::test]
async fn what_would_frame_the_workloads_request_is_malformed() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    for (name, value) in [
        ("transfer-encoding", &b"chunked"[..]),
        ("connection", b"keep-alive"),
        ("upgrade", b"websocket"),
        ("te", b"gzip"),
        ("content-length", b"5"),
        ("x", b"a\r\nhost: b"),
        ("x", b"a\nb"),
        ("x", b"a\0b"),
        ("X", b"a"),
        ("x y", b"a"),
        ("x:", b"a"),
        (":path", b"/b"),
        (":status", b"200"),
    ] {
        let mut conversation = hello(&house).await;
        let fields = [GET, &literal(name, value)].concat();
        let asked = frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields);
        assert!(conversation.try_write(&asked).await);
        let (kind, _, payload) = next(&mut conversation, &[HEADERS, RST_STREAM, GOAWAY]).await;
        let code = match kind {
            RST_STREAM => number(&payload),
            GOAWAY => number(&payload[4..8]),
            _ => panic!("{name}: {value:?} was answered"),
        };
        assert_eq!(code, PROTOCOL_ERROR, "{name}: {value:?}");
    }
    assert_eq!(upstream.seen().len(), 0);
    house.edge.drain(Duration::from_secs(20)).await;
}
