//! Nothing that a workload or a client says can make one answer into two: not in a header's value, a reason, a
//! `Location`, an id or a trace, and not by bytes that a workload sends after its answer.

use model::TraceId;

use crate::{
    conversation::{Conversation, ask},
    house::House,
    upstream::scripted,
};

/// An answer that a workload smuggles: whoever gets it got another's.
const EVIL: &str = "evil";

#[tokio::test]
async fn what_is_no_answer_becomes_none() {
    for wire in [
        &b"HTTP/1.1 200 OK\r\nX: a\rX: b\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nLocation: /a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nevil",
        b"HTTP/1.1 200 a\x01b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let raw = scripted(Vec::leak(vec![wire])).await;
        let house = House::open(&raw.manifest()).await;
        let mut conversation = Conversation::with(house.address()).await;
        let reply = conversation.ask("GET", "/", &[]).await;
        let wire = String::from_utf8_lossy(wire);
        assert_eq!((reply.status, reply.code()), (503, "TG0408"), "{wire:?}");
        assert!(!reply.body.contains(EVIL), "{wire:?}");
    }
}

#[tokio::test]
async fn a_workload_cannot_answer_the_next_request_before_it_is_asked() {
    let raw = scripted(&[
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ])
    .await;
    let house = House::open(&raw.manifest()).await;
    let mut conversation = Conversation::with(house.address()).await;
    for _ in 0..5 {
        assert_eq!(conversation.ask("GET", "/", &[]).await.body, "ok");
    }
    assert_eq!(raw.connections(), 5, "none of them was used again");
}

#[tokio::test]
async fn a_reason_is_the_clients_to_read_and_no_more_than_that() {
    let raw =
        scripted(&[b"HTTP/1.1 200 Fine: really \xc3\xbc\r\nContent-Length: 2\r\n\r\nok"]).await;
    let house = House::open(&raw.manifest()).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation
        .send("GET", "/", &["Connection: close"], "")
        .await;
    let all = conversation.rest().await;
    assert_eq!(
        all.lines()
            .filter(|line| line.starts_with("HTTP/1.1 "))
            .count(),
        1
    );
    assert!(all.ends_with("\r\n\r\nok"), "{all}");
}

#[tokio::test]
async fn what_a_client_says_of_itself_comes_back_harmless_or_not_at_all() {
    let raw = scripted(&[b"HTTP/1.1 204 No Content\r\n\r\n"]).await;
    let house = House::open(&raw.manifest()).await;
    for said in ["a\tb", "a%0d%0aX-Evil: 1", "a\u{fc}", "a,b", "\"a\""] {
        let reply = ask(
            house.address(),
            "GET",
            "/",
            &[&format!("X-Request-Id: {said}")],
        )
        .await;
        let id = reply.header("x-request-id").expect("there is one");
        assert_ne!(id, said);
        assert_eq!(id.len(), 36, "one that was made here");
    }
    for header in [
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\tX-Evil: 1",
        "X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793;X-Evil: 1",
        "traceparent: \u{fc}",
    ] {
        ask(house.address(), "GET", "/", &[header]).await;
        let head = raw.heads().pop().expect("it came");
        let made = head
            .lines()
            .find_map(|line| line.strip_prefix("traceparent: "))
            .expect("every request has a trace");
        assert!(
            made.len() == 55 && made[3..35].parse::<TraceId>().is_ok(),
            "{made}"
        );
        assert!(
            !head.contains("X-Evil: 1\r\n") || !head.contains("\r\nX-Evil"),
            "{head}"
        );
    }
}
