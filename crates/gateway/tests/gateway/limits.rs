//! Limits and timeouts: what is too large, too slow or too long, and the end of a connection when the edge drains.

use std::time::Duration;

use model::{ByteSize, Limits};

use crate::{
    conversation::{Conversation, ask, post},
    house::{House, Wishes},
    upstream::{Upstream, app, everything, text},
};

const SHORT: Duration = Duration::from_millis(200);

fn limits() -> Limits {
    Limits {
        request_body: ByteSize(1000),
        body_idle: SHORT,
        head_timeout: SHORT,
        ..Limits::default()
    }
}

async fn narrow(manifest: &str) -> House {
    House::with(
        manifest,
        Wishes {
            limits: limits(),
            ..Wishes::default()
        },
    )
    .await
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_unread() {
    let upstream = Upstream::echo().await;
    let house = narrow(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation
        .write("POST / HTTP/1.1\nHost: a\nContent-Length: 1001\nExpect: 100-continue\n\n")
        .await;
    let reply = conversation.answer().await;
    assert_eq!(
        (reply.status, reply.code()),
        (413, "TG0203"),
        "and no 100 before it"
    );
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(
        post(house.address(), "/", &[], &"x".repeat(1000))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_refused() {
    let upstream = Upstream::echo().await;
    let house = narrow(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation
        .write("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n")
        .await;
    for _ in 0..20 {
        if !conversation
            .try_write(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes())
            .await
        {
            break;
        }
    }
    let reply = conversation.answer().await;
    assert_eq!((reply.status, reply.code()), (413, "TG0203"));
}

#[tokio::test]
async fn a_routes_own_limit_is_smaller() {
    let upstream = Upstream::echo().await;
    let house = House::open(&app(
        &upstream,
        "gateway: {routes: [{path: /*, to: web, max_body: 10B}]}\n",
    ))
    .await;
    assert_eq!(
        post(house.address(), "/", &[], "0123456789").await.status,
        200
    );
    assert_eq!(
        post(house.address(), "/", &[], "0123456789a").await.code(),
        "TG0203"
    );
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_when_its_body_is_wanted() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation
        .write("POST / HTTP/1.1\nHost: a\nContent-Length: 2\nExpect: 100-continue\n\n")
        .await;
    assert!(conversation.head().await.starts_with("HTTP/1.1 100"));
    conversation.write("hi").await;
    assert_eq!(conversation.answer().await.body, "POST / hi");
    assert_eq!(upstream.last().header("expect"), None);
}

#[tokio::test]
async fn slow_heads_end_the_connection() {
    let upstream = Upstream::echo().await;
    let house = narrow(&everything(&upstream)).await;
    let mut silent = Conversation::with(house.address()).await;
    let mut slow = Conversation::with(house.address()).await;
    let mut second = Conversation::with(house.address()).await;
    slow.write("GET / HTTP/1.1\nHost: ").await;
    assert_eq!(second.ask("GET", "/", &[]).await.status, 200);
    second.write("GET / HT").await;
    assert!(silent.closes().await && slow.closes().await && second.closes().await);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_kept_longer_than_a_head_may_take() {
    let upstream = Upstream::start(|_| async { text("x") }).await;
    let wishes = Wishes {
        limits: limits(),
        connections: |limits| limits.keep_alive = Duration::from_millis(700),
        ..Wishes::default()
    };
    let house = House::with(&everything(&upstream), wishes).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation.ask("GET", "/", &[]).await;
    let mut other = Conversation::with(house.address()).await;
    // The other connection's silence is over after a head's time: this one's is not.
    assert!(other.closes().await);
    assert_eq!(conversation.ask("GET", "/", &[]).await.status, 200);
    assert!(conversation.closes().await);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_the_clients_timeout() {
    let upstream = Upstream::echo().await;
    let house = narrow(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation
        .write("POST / HTTP/1.1\nHost: a\nContent-Length: 10\n\nabc")
        .await;
    let reply = conversation.answer().await;
    assert_eq!((reply.status, reply.code()), (408, "TG0204"));
    assert!(reply.body.contains("\"status\":408"), "{}", reply.body);
}

#[tokio::test]
async fn a_workload_that_does_not_answer_is_its_timeout() {
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let house = House::open(&app(
        &upstream,
        "gateway: {routes: [{path: /*, to: web, timeout: 150ms}]}\n",
    ))
    .await;
    let reply = ask(house.address(), "GET", "/", &[]).await;
    assert_eq!((reply.status, reply.code()), (504, "TG0401"));
}

/// A workload that holds as much as it may, as long as what comes with the house is there.
async fn full(upstream: &Upstream) -> (House, Vec<platform::dispatch::Permit>) {
    let manifest =
        everything(upstream).replace("    run:", "    scale: {max: 1, concurrency: 1}\n    run:");
    let house = House::open(&manifest).await;
    let callee = house
        .platform()
        .apps()
        .by_name("shop/web", None)
        .expect("is live");
    let mut held = Vec::new();
    while let Ok(permit) = house
        .platform()
        .dispatch()
        .admit(&callee, model::Class::Interactive)
    {
        held.push(permit);
    }
    (house, held)
}

#[tokio::test]
async fn more_than_a_workload_holds_is_refused_with_a_time_to_come_back() {
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let (house, _held) = full(&upstream).await;
    let reply = ask(house.address(), "GET", "/", &[]).await;
    assert_eq!(
        (reply.status, reply.code(), reply.header("retry-after")),
        (503, "TG0301", Some("1"))
    );
}

#[tokio::test]
async fn more_than_a_workload_holds_is_refused_before_its_body_is_read() {
    let upstream = Upstream::echo().await;
    let (house, held) = full(&upstream).await;
    for expect in ["Expect: 100-continue\n", ""] {
        let mut conversation = Conversation::with(house.address()).await;
        conversation
            .write(&format!(
                "POST / HTTP/1.1\nHost: a\nContent-Length: 5000000\n{expect}\n"
            ))
            .await;
        // Not a byte of the body is sent: whoever read it first would answer nothing, or 100.
        let reply = conversation.answer().await;
        assert_eq!((reply.status, reply.code()), (503, "TG0301"), "{expect:?}");
        let seconds = reply.header("retry-after").expect("when to come back");
        assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0));
        assert!(conversation.closes().await, "what follows is no request");
    }
    assert_eq!(upstream.seen().len(), 0);
    // With room again the same is asked for its body.
    drop(held);
    let mut conversation = Conversation::with(house.address()).await;
    conversation
        .write("POST / HTTP/1.1\nHost: a\nContent-Length: 5000000\nExpect: 100-continue\n\n")
        .await;
    assert!(conversation.head().await.starts_with("HTTP/1.1 100"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    conversation.try_write(head.as_bytes()).await;
    assert!(conversation.head().await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight() {
    let (arrived, mut waiting) = tokio::sync::mpsc::channel(1);
    let (go, may_go) = tokio::sync::watch::channel(false);
    let upstream = Upstream::start(move |_| {
        let (arrived, mut may_go) = (arrived.clone(), may_go.clone());
        async move {
            arrived.send(()).await.expect("the test waits");
            may_go.wait_for(|go| *go).await.expect("the test lives");
            text("done")
        }
    })
    .await;
    let wishes = Wishes {
        connections: |limits| limits.head = Duration::from_secs(600),
        ..Wishes::default()
    };
    let house = House::with(&everything(&upstream), wishes).await;
    let address = house.address();
    let mut silent = Conversation::with(address).await;
    let mut conversation = Conversation::with(address).await;
    conversation.send("GET", "/", &[], "").await;
    waiting.recv().await.expect("it arrived");
    let drain = house.edge.drain(Duration::from_secs(600));
    tokio::pin!(drain);
    tokio::select! {
        () = &mut drain => panic!("there is still a request in flight"),
        closed = silent.closes() => assert!(closed, "who has asked nothing is let go"),
    }
    go.send_replace(true);
    let reply = conversation.answer().await;
    assert_eq!(
        (reply.body.as_str(), reply.header("connection")),
        ("done", Some("close"))
    );
    drain.await;
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_is_told_when_it_wants_more() {
    let upstream = Upstream::echo().await;
    let wishes = Wishes {
        connections: |limits| {
            limits.per_client = 2;
            limits.count_local = true;
        },
        ..Wishes::default()
    };
    let house = House::with(&everything(&upstream), wishes).await;
    let mut first = Conversation::with(house.address()).await;
    let mut second = Conversation::with(house.address()).await;
    assert_eq!(first.ask("GET", "/1", &[]).await.status, 200);
    assert_eq!(second.ask("GET", "/2", &[]).await.status, 200);
    let refused = ask(house.address(), "GET", "/3", &[]).await;
    assert_eq!((refused.status, refused.code()), (429, "TG0212"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(first.ask("GET", "/1", &[]).await.status, 200, "it goes on");
    assert_eq!(upstream.seen().len(), 3);
    // One that has ended makes room, once the gateway has noticed.
    first.send("GET", "/1", &["Connection: close"], "").await;
    first.rest().await;
    while ask(house.address(), "GET", "/4", &[]).await.status != 200 {}
}

#[tokio::test]
async fn bodies_that_must_be_whole_share_one_budget() {
    let upstream = Upstream::echo().await;
    let wishes = Wishes {
        limits: Limits {
            body_buffers: ByteSize(1000),
            ..Limits::default()
        },
        ..Wishes::default()
    };
    let routes = "gateway:\n  routes:\n  - {path: /stream, to: web}\n  - {path: /later, to: web, async: true}\n";
    let house = House::with(&app(&upstream, routes), wishes).await;
    let address = house.address();
    let buffers = house.platform().dispatch().buffers().clone();
    let mut slow = Conversation::with(address).await;
    slow.write("POST /later HTTP/1.1\nHost: a\nContent-Length: 700\n\n")
        .await;
    slow.write(&"x".repeat(600)).await;
    while buffers.used() != ByteSize(600) {
        tokio::task::yield_now().await;
    }
    // What does not fit is refused for what it announces: no 100, and nothing is read.
    let mut large = Conversation::with(address).await;
    large
        .write("POST /later HTTP/1.1\nHost: a\nContent-Length: 401\nExpect: 100-continue\n\n")
        .await;
    let refused = large.answer().await;
    assert_eq!((refused.status, refused.code()), (503, "TG0306"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    // What announces nothing is refused when it grows over it.
    let mut growing = Conversation::with(address).await;
    growing
        .write("POST /later HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n")
        .await;
    for _ in 0..5 {
        growing
            .try_write(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes())
            .await;
    }
    assert_eq!(growing.answer().await.code(), "TG0306");
    // Streams and small bodies go on, and at the end all is free.
    assert_eq!(
        post(address, "/stream", &[], &"x".repeat(5000))
            .await
            .status,
        200
    );
    assert_eq!(post(address, "/later", &[], "small").await.status, 202);
    slow.write(&"x".repeat(100)).await;
    assert_eq!(slow.answer().await.status, 202);
    while buffers.used() != ByteSize(0) {
        tokio::task::yield_now().await;
    }
}
