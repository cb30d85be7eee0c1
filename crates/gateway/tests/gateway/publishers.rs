//! Publishing over a WebSocket, as its clients see it: an answer for each event, in their order, and how it ends.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use model::{ByteSize, Limits};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::{
    conversation::{Conversation, ask},
    house::{House, Wishes},
};

const MANIFEST: &str = "app: bus\nworkloads:\n  nobody: {as: service, run: {external: {url: 'http://127.0.0.1:9'}}}\n\
                        gateway: {routes: [{path: /in, methods: [GET], to: events}]}\n";
const ELSEWHERE: &str = "app: bus\nworkloads:\n  nobody: {as: service, run: {external: {url: 'http://127.0.0.1:9'}}}\n\
                         gateway: {routes: [{path: /other, to: events}]}\n";

const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn client(house: &House) -> Client {
    let url = format!("ws://{}/in", house.address());
    let mut request = url.into_client_request().expect("is a request");
    let offers = "tangelo.publish.v1".parse().expect("is a value");
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", offers);
    let (client, answer) = connect_async(request).await.expect("it switches protocols");
    assert_eq!(
        answer.headers()["sec-websocket-protocol"],
        "tangelo.publish.v1"
    );
    client
}

fn event(id: &str) -> Message {
    let event = json!({"specversion": "1.0", "type": "order.paid", "source": "/till", "id": id, "data": {"id": id}});
    Message::text(event.to_string())
}

async fn told(client: &mut Client) -> Value {
    let message = client.next().await.expect("it is open").expect("it holds");
    let text = message.to_text().expect("is a text");
    serde_json::from_str(text).expect("is JSON")
}

/// Why the server closed it, after whatever else it said.
async fn closed(client: &mut Client) -> (CloseCode, String) {
    loop {
        match client.next().await.expect("it is closed with a word") {
            Ok(Message::Close(Some(frame))) => return (frame.code, frame.reason.to_string()),
            Ok(_) => {}
            Err(error) => panic!("it broke off: {error}"),
        }
    }
}

#[tokio::test]
async fn each_event_is_answered_by_itself_in_the_order_of_all() {
    const COUNT: usize = 3000;
    let house = House::open(MANIFEST).await;
    let (mut send, receive) = client(&house).await.split();
    let sending = async {
        for n in 0..COUNT {
            let message = match n % 100 {
                // A bad one, and one that was there before, cost the others nothing.
                50 => Message::text(r#"{"specversion":"1.0","id":"x"}"#),
                51 => event(&(n - 2).to_string()),
                _ => event(&n.to_string()),
            };
            send.feed(message).await.expect("it is taken");
        }
        send.flush().await.expect("it is taken");
    };
    let answers = receive.take(COUNT).map(|message| {
        let message = message.expect("it holds");
        let text = message.to_text().expect("is a text");
        serde_json::from_str::<Value>(text).expect("is JSON")
    });
    let ((), answers) = tokio::join!(sending, answers.collect::<Vec<_>>());
    let mut last = 0;
    for (n, answer) in answers.iter().enumerate() {
        match n % 100 {
            50 => assert_eq!(answer["code"], "TG0501", "{answer}"),
            51 => {
                let id = (n - 2).to_string();
                assert_eq!(
                    (&answer["id"], &answer["duplicate"]),
                    (&id.into(), &true.into())
                );
            }
            _ => {
                assert_eq!(
                    (&answer["id"], &answer["duplicate"]),
                    (&n.to_string().into(), &false.into())
                );
                let position = answer["position"].as_u64().expect("is a number");
                assert!(position > last, "stored in the order in which they came");
                last = position;
            }
        }
    }
}

#[tokio::test]
async fn what_is_too_large_or_no_message_closes_it_after_the_others_are_answered() {
    let limits = Limits {
        event: ByteSize::kib(8),
        ..Limits::default()
    };
    let wishes = Wishes {
        limits,
        ..Wishes::default()
    };
    let house = House::with(MANIFEST, wishes).await;
    let mut large = client(&house).await;
    large.feed(event("a")).await.expect("it is taken");
    large
        .send(Message::text("x".repeat(9 << 10)))
        .await
        .expect("it is taken");
    assert_eq!(told(&mut large).await["id"], "a");
    let (code, why) = closed(&mut large).await;
    assert_eq!(code, CloseCode::Size);
    assert!(why.contains("8KiB"), "{why}");

    // A client must mask what it sends (RFC 6455, section 5.1).
    let mut raw = Conversation::with(house.address()).await;
    raw.send("GET", "/in", &UPGRADE, "").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101"));
    assert!(raw.try_write(b"\x81\x02{}").await);
    let last = raw.rest().await;
    assert!(last.contains("unmasked"), "{last}");
    // It is there for others.
    let mut other = client(&house).await;
    other.send(event("b")).await.expect("it is taken");
    assert_eq!(told(&mut other).await["id"], "b");
}

#[tokio::test]
async fn whoever_says_nothing_is_asked_and_whoever_does_not_answer_is_left() {
    let limits = Limits {
        body_idle: Duration::from_millis(200),
        ..Limits::default()
    };
    let wishes = Wishes {
        limits,
        ..Wishes::default()
    };
    let house = House::with(MANIFEST, wishes).await;
    // This client answers whenever it reads.
    let mut polite = client(&house).await;
    for _ in 0..4 {
        let asked = polite.next().await.expect("it is open").expect("it holds");
        assert!(asked.is_ping(), "{asked:?}");
    }
    polite.send(event("a")).await.expect("it is taken");
    assert_eq!(told(&mut polite).await["id"], "a");

    let mut silent = Conversation::with(house.address()).await;
    silent.send("GET", "/in", &UPGRADE, "").await;
    assert!(silent.head().await.starts_with("HTTP/1.1 101"));
    let last = silent.rest().await;
    assert!(last.contains("does not answer"), "{last}");
}

#[tokio::test]
async fn it_ends_with_its_route_and_with_the_server_and_says_so() {
    let house = House::open(MANIFEST).await;
    let mut one = client(&house).await;
    one.send(event("a")).await.expect("it is taken");
    assert_eq!(told(&mut one).await["id"], "a");
    house.deploy(ELSEWHERE).await;
    // Whoever has nothing to say hears of it, too.
    let (code, why) = closed(&mut one).await;
    assert_eq!(code, CloseCode::Policy);
    assert!(why.contains("TG0201"), "{why}");

    house.deploy(MANIFEST).await;
    let mut other = client(&house).await;
    other.send(event("c")).await.expect("it is taken");
    let (ended, ()) = tokio::join!(
        async {
            let answer = told(&mut other).await;
            (answer, closed(&mut other).await)
        },
        house.edge.drain(Duration::from_secs(30)),
    );
    let (answer, (code, _)) = ended;
    assert_eq!((&answer["id"], code), (&"c".into(), CloseCode::Away));
}

#[tokio::test]
async fn whoever_sends_all_and_closes_is_answered_all_and_the_close() {
    let house = House::open(MANIFEST).await;
    let mut client = client(&house).await;
    for n in 0..50 {
        client
            .feed(event(&n.to_string()))
            .await
            .expect("it is taken");
    }
    client.close(None).await.expect("it is taken");
    let mut answers = 0;
    let closed = loop {
        match client.next().await.expect("it is closed with a word") {
            Ok(Message::Close(frame)) => break frame,
            Ok(_) => answers += 1,
            Err(error) => panic!("it broke off: {error}"),
        }
    };
    assert_eq!((answers, closed), (50, None));

    // One that closes its half without a word has an answer coming, too.
    let mut half = Conversation::with(house.address()).await;
    half.send("GET", "/in", &UPGRADE, "").await;
    assert!(half.head().await.starts_with("HTTP/1.1 101"));
    let event = event("half").into_text().expect("is a text");
    let length = u8::try_from(event.len()).expect("is short");
    let frame = [&[0x81, 0x80 | 126, 0, length, 0, 0, 0, 0], event.as_bytes()].concat();
    assert!(half.try_write(&frame).await);
    half.end().await;
    let last = half.rest().await;
    assert!(last.contains("\"position\":51"), "{last}");
}

#[tokio::test]
async fn whoever_pings_and_never_reads_holds_no_more_than_a_buffer() {
    let house = House::open(MANIFEST).await;
    let before = resident();
    let mut flood = Conversation::with(house.address()).await;
    flood.send("GET", "/in", &UPGRADE, "").await;
    assert!(flood.head().await.starts_with("HTTP/1.1 101"));
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0], [b'x'; 125].as_slice()].concat();
    let pings = ping.repeat(1000);
    for _ in 0..200 {
        assert!(flood.try_write(&pings).await);
    }
    let more = resident().saturating_sub(before);
    assert!(more < 8 << 20, "{more} bytes more for 26 MB of pings");
    // It is there for others.
    let mut other = client(&house).await;
    other.send(event("b")).await.expect("it is taken");
    assert_eq!(told(&mut other).await["id"], "b");
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("is Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(0, |pages: u64| pages * 4096)
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_and_what_is_no_upgrade_is_a_request() {
    let house = House::open(MANIFEST).await;
    let upgrade = |more| [UPGRADE.as_slice(), &[more]].concat();
    let address = house.address();
    let foreign = ask(
        address,
        "GET",
        "/in",
        &upgrade("Origin: https://evil.example"),
    )
    .await;
    assert_eq!(foreign.status, 400);
    assert!(foreign.body.contains("TG0211"), "{}", foreign.body);
    let other = ask(
        address,
        "GET",
        "/in",
        &upgrade("Sec-WebSocket-Protocol: cloudevents.json"),
    )
    .await;
    assert!(other.body.contains("tangelo.publish.v1"), "{}", other.body);
    let plain = ask(address, "GET", "/in", &[]).await;
    assert!(plain.body.contains("TG0202"), "{}", plain.body);
}
