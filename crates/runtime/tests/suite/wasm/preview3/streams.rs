//! Bodies of WASI 0.3 stream both ways, with trailers, and end with their guest.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use model::{ByteSize, code};
use runtime::{Body, BodyError, Input};
use tokio::sync::mpsc;

use super::alone;
use crate::{support::eventually, wasm::platform::request};

#[tokio::test]
async fn an_echo_answers_before_the_request_has_ended_and_passes_trailers_on() {
    let platform = alone();
    for path in ["/echo", "/pass"] {
        let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, BodyError>>(1);
        let chunks = stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let body = Body::stream(StreamBody::new(chunks));
        let ran = platform
            .input(Input::http(request("POST", path, body)))
            .await;
        let mut echoed = ran.response.expect("the head comes first").into_body();
        for word in ["one", "two", "three"] {
            sender
                .send(Ok(Frame::data(word.into())))
                .await
                .expect("is read");
            let frame = echoed.frame().await.expect("not the end").expect("whole");
            assert_eq!(frame.into_data().expect("data"), word, "{path}");
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("11"));
        sender
            .send(Ok(Frame::trailers(trailers)))
            .await
            .expect("is read");
        drop(sender);
        let frame = echoed.frame().await.expect("trailers").expect("whole");
        let trailers = frame.into_trailers().expect("they come last");
        assert_eq!(trailers["x-sum"], "11", "{path}");
        assert!(echoed.frame().await.is_none());
        assert_eq!(ran.meter.failure(), None);
    }
}

#[tokio::test]
async fn a_guest_has_trailers_of_its_own() {
    let platform = alone();
    let response = platform.get("/trailers").await.response.expect("a head");
    let body = BodyExt::collect(response.into_body()).await;
    let body = body.expect("whole");
    assert_eq!(body.trailers().expect("trailers")["x-sum"], "12");
    assert_eq!(body.to_bytes(), "before them\n");
}

#[tokio::test]
async fn large_bodies_pass_through_little_memory() {
    const SIZE: u64 = 64 << 20;
    let platform = alone();
    let chunk = Bytes::from(vec![7; 64 << 10]);
    let frames = (0..SIZE / chunk.len() as u64).map(move |_| Ok(Frame::data(chunk.clone())));
    let body = Body::stream(StreamBody::new(stream::iter(frames)));
    let ran = platform
        .input(Input::http(request("POST", "/echo", body)))
        .await;
    let mut body = ran.response.expect("a head").into_body();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame.expect("whole").into_data().expect("data").len() as u64;
    }
    assert_eq!(total, SIZE);
    assert!(ran.meter.memory() < 8 << 20, "{}", ran.meter.memory());
}

#[tokio::test]
async fn a_guest_works_no_faster_than_it_is_read_and_ends_when_nobody_reads() {
    let platform = alone();
    let ran = platform.get("/stream?1000000000").await;
    let mut body = ran.response.expect("a head").into_body();
    body.frame().await.expect("not the end").expect("whole");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let before = ran.meter.cpu();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ran.meter.cpu(), before);
    assert_eq!(platform.pool.stats().instances[0].in_flight, 1);
    drop(body);
    eventually("it is cut off", || platform.engine.stats().taken == 0).await;
    assert_eq!(platform.pool.stats().instances[0].in_flight, 0);
    assert_eq!(platform.pool.stats().failures, 0);
}

#[tokio::test]
async fn chunks_arrive_when_they_are_written() {
    let platform = alone();
    let ran = platform.get("/paused?20").await;
    let mut body = ran.response.expect("a head").into_body();
    for expected in ["first\n", "second\n"] {
        let frame = body.frame().await.expect("not the end").expect("whole");
        assert_eq!(frame.into_data().expect("data"), expected);
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_response_is_complete_when_its_guest_has_ended() {
    let platform = alone();
    let ran = platform.get("/afterwards?30").await;
    let mut body = ran.response.expect("a head").into_body();
    let frame = body.frame().await.expect("not the end").expect("whole");
    // These are all bytes that were announced: a server stops reading here.
    assert_eq!(frame.into_data().expect("data"), "done\n");
    assert_eq!(platform.lines(), ["afterwards"]);
}

#[tokio::test]
async fn a_deadline_holds_for_the_body_too() {
    let platform = alone();
    platform.pool.ready().await.expect("it loads");
    let ran = platform
        .get_within(Duration::from_millis(100), "/paused?600000")
        .await;
    let body = ran.response.expect("a head").into_body();
    let error = Body::collect(body, ByteSize::mib(1)).await;
    let error = error.expect_err("a deadline");
    assert!(matches!(error, BodyError::Workload(e) if e.code == code::WORKLOAD_TIMEOUT));
}
