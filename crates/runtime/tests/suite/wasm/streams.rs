//! Bodies stream both ways, as fast as they are read, and end with their guest.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use model::ByteSize;
use runtime::{Body, BodyError, Input};
use tokio::sync::mpsc;

use super::platform::{Platform, request, text};

#[tokio::test]
async fn an_echo_answers_before_the_request_has_ended() {
    let platform = Platform::new();
    let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, BodyError>>(1);
    let chunks = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let body = Body::stream(StreamBody::new(chunks));
    let ran = platform
        .input(Input::http(request("POST", "/echo", body)))
        .await;
    let mut echoed = ran.response.expect("the head comes first").into_body();
    for word in ["one", "two", "three"] {
        sender
            .send(Ok(Frame::data(word.into())))
            .await
            .expect("is read");
        let frame = echoed.frame().await.expect("not the end").expect("whole");
        assert_eq!(frame.into_data().expect("data"), word);
    }
    drop(sender);
    assert!(echoed.frame().await.is_none());
}

#[tokio::test]
async fn large_bodies_pass_through_little_memory() {
    const SIZE: u64 = 200 << 20;
    let platform = Platform::new();
    let ran = platform.get(&format!("/stream?{SIZE}")).await;
    let mut body = ran.response.expect("a head").into_body();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame.expect("whole").into_data().expect("data").len() as u64;
    }
    assert_eq!(total, SIZE);
    assert!(ran.meter.memory() < 8 << 20, "{}", ran.meter.memory());
    let chunk = Bytes::from(vec![7; 64 << 10]);
    let frames = (0..SIZE / chunk.len() as u64).map(move |_| Ok(Frame::data(chunk.clone())));
    let body = Body::stream(StreamBody::new(stream::iter(frames)));
    let ran = platform
        .input(Input::http(request("POST", "/count", body)))
        .await;
    assert_eq!(
        text(ran.response.expect("an answer")).await,
        format!("{SIZE}\n")
    );
    assert!(ran.meter.memory() < 8 << 20, "{}", ran.meter.memory());
}

#[tokio::test]
async fn a_guest_works_no_faster_than_it_is_read() {
    let platform = Platform::new();
    let ran = platform.get("/stream?1000000000").await;
    let mut body = ran.response.expect("a head").into_body();
    body.frame().await.expect("not the end").expect("whole");
    let before = ran.meter.cpu();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ran.meter.cpu(), before);
    assert_eq!(platform.engine.stats().taken, 1);
}

#[tokio::test]
async fn dropping_the_body_cuts_the_guest_off() {
    let platform = Platform::new();
    let ran = platform.get("/stream?1000000000").await;
    let mut body = ran.response.expect("a head").into_body();
    body.frame().await.expect("not the end").expect("whole");
    assert_eq!(platform.pool.stats().instances[0].in_flight, 1);
    assert!(platform.pool.stats().instances[0].memory > 0);
    drop(body);
    let stats = platform.pool.stats();
    assert_eq!(
        (stats.instances[0].in_flight, stats.instances[0].memory),
        (0, 0)
    );
    assert_eq!(stats.failures, 0);
    assert_eq!(platform.engine.stats().taken, 0);
    assert_eq!(platform.text("/hello").await, "hello\n");
}

#[tokio::test]
async fn chunks_arrive_when_they_are_written() {
    let platform = Platform::new();
    let ran = platform.get("/paused?20").await;
    let mut body = ran.response.expect("a head").into_body();
    for expected in ["first", "later"] {
        let frame = body.frame().await.expect("not the end").expect("whole");
        assert_eq!(frame.into_data().expect("data"), expected);
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_response_is_complete_when_its_guest_has_returned() {
    let platform = Platform::new();
    let ran = platform.get("/afterwards?30").await;
    let mut body = ran.response.expect("a head").into_body();
    let frame = body.frame().await.expect("not the end").expect("whole");
    // These are all bytes that were announced: a server stops reading here.
    assert_eq!(frame.into_data().expect("data"), "hello");
    assert_eq!(platform.lines(), ["still here"]);
    assert_eq!(platform.engine.stats().taken, 0);
}

#[tokio::test]
async fn a_deadline_holds_for_the_body_too() {
    let platform = Platform::new();
    platform.pool.ready().await.expect("it loads");
    let invocation = platform.invocation(Duration::from_millis(100));
    let input = Input::http(request("GET", "/paused?600000", Body::Empty));
    let ran = platform.pool.invoke(invocation, input).await;
    let body = ran.response.expect("a head").into_body();
    let error = body
        .collect(ByteSize::mib(1))
        .await
        .expect_err("a deadline");
    assert!(matches!(error, BodyError::Workload(e) if e.code == model::code::WORKLOAD_TIMEOUT));
}
