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

#[tokio::test]
async fn more_than_a_workload_holds_is_refused_with_a_time_to_come_back() {
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let manifest =
        everything(&upstream).replace("    run:", "    scale: {max: 1, concurrency: 1}\n    run:");
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
    let reply = ask(house.address(), "GET", "/", &[]).await;
    assert_eq!(
        (reply.status, reply.code(), reply.header("retry-after")),
        (429, "TG0301", Some("1"))
    );
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
