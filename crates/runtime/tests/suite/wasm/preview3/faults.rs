//! What goes wrong in a guest of WASI 0.3 that has its instance to itself is a coded error of its own request.

use std::time::Duration;

use model::{ByteSize, Error, code};
use runtime::{Body, BodyError, Input};

use super::alone;
use crate::{
    support::eventually,
    wasm::platform::{Platform, failure, request},
};

#[tokio::test]
async fn a_guest_that_never_stops_starves_nobody_and_is_cut_off_when_nobody_waits_for_it() {
    let platform = alone();
    platform.pool.ready().await.expect("it loads");
    for path in ["/spin?0", "/yield"] {
        // One thread for both: the quick one is answered while the other works.
        let mut works = Box::pin(platform.get(path));
        let quick = tokio::select! {
            biased;
            _ = &mut works => panic!("nothing ends a guest that has time left"),
            quick = platform.text("/hello") => quick,
        };
        assert_eq!(quick, "hello\n", "{path}");
        drop(works);
        eventually("it ends", || platform.engine.stats().taken == 0).await;
    }
}

#[tokio::test]
async fn a_guest_that_never_stops_ends_at_its_deadline() {
    let platform = alone();
    platform.pool.ready().await.expect("it loads");
    for path in ["/spin?0", "/yield"] {
        let ran = platform.get_within(Duration::from_millis(200), path).await;
        assert!(!ran.meter.cpu().is_zero(), "{path}");
        assert_eq!(failure(ran).code, code::WORKLOAD_TIMEOUT, "{path}");
        eventually("it ends", || platform.engine.stats().taken == 0).await;
    }
}

#[tokio::test]
async fn a_guest_that_waits_ends_at_its_deadline() {
    let platform = alone();
    platform.pool.ready().await.expect("it loads");
    let ran = platform.get_within(Duration::from_millis(50), "/sleep?600000");
    assert_eq!(failure(ran.await).code, code::WORKLOAD_TIMEOUT);
    eventually("it ends", || platform.engine.stats().taken == 0).await;
}

#[tokio::test]
async fn memory_is_limited_for_one_and_for_all() {
    let platform = Platform::preview3("preview3", |w| w.memory = ByteSize::mib(32));
    assert_eq!(platform.text("/memory?10").await, "10\n");
    let ran = platform.get("/memory?100").await;
    let peak = ran.meter.memory();
    assert!((16 << 20..=32 << 20).contains(&peak), "{peak}");
    let error = failure(ran);
    assert_eq!(error.code, code::GUEST_MEMORY, "{error}");
    let platform = Platform::preview3("preview3", |w| w.memory = ByteSize::mib(512));
    let error = platform.failure("/memory?300").await;
    assert_eq!(error.code, code::SERVER_FULL, "{error}");
    eventually("it is given back", || {
        platform.engine.stats().guest_memory == 0
    })
    .await;
    assert_eq!(platform.text("/memory?100").await, "100\n");
}

#[tokio::test]
async fn a_trap_is_an_error_with_a_backtrace_for_the_operator() {
    let platform = alone();
    let error = platform.failure("/trap").await;
    assert_eq!(error.code, code::GUEST_TRAPPED);
    assert_eq!(
        error.message,
        "`shop/behaviours` trapped: wasm `unreachable` instruction executed"
    );
    let context = error.context.expect("a backtrace");
    assert!(context.contains("preview3"), "{context}");
    let lines = platform.lines();
    assert!(lines.iter().any(|line| line.contains("on purpose")));
    let error = platform.failure("/recurse").await;
    assert_eq!(error.code, code::GUEST_TRAPPED);
    assert_eq!(platform.text("/hello").await, "hello\n");
    assert_eq!(platform.pool.stats().failures, 2);
}

#[tokio::test]
async fn what_is_no_response_says_why() {
    let platform = alone();
    let check = async |path: &str, code, says: &str| {
        let error: Error = platform.failure(path).await;
        assert_eq!(error.code, code, "{path}: {error}");
        assert!(error.message.contains(says), "{path}: {error}");
    };
    check("/refuse", code::NO_RESPONSE, "an error instead").await;
    check("/exit?0", code::NO_RESPONSE, "without setting a response").await;
    check("/exit?1", code::GUEST_TRAPPED, "exited with status 1").await;
}

#[tokio::test]
async fn what_goes_wrong_after_the_head_fails_the_body() {
    let platform = alone();
    let check = async |path: &str, code| {
        let ran = platform.get(path).await;
        let response = ran.response.expect("the head was sent before");
        let error = response.into_body().collect(ByteSize::mib(1)).await;
        let Err(BodyError::Workload(error)) = error else {
            panic!("{path} has to fail: {error:?}");
        };
        assert_eq!(error.code, code, "{path}: {error}");
        assert_eq!(ran.meter.failure(), Some(&error), "{path}");
    };
    check("/trap-late", code::GUEST_TRAPPED).await;
    check("/promise?3", code::NO_RESPONSE).await;
    check("/promise?30", code::NO_RESPONSE).await;
}

#[tokio::test]
async fn a_request_body_that_fails_is_not_the_guests_failure() {
    let platform = alone();
    let frames = [
        Ok(http_body::Frame::data("some".into())),
        Err(BodyError::TooLarge(ByteSize::kib(1))),
    ];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let input = Input::http(request("POST", "/echo", Body::stream(body)));
    let ran = platform.input(input).await;
    let response = ran.response.expect("a head");
    let error = response.into_body().collect(ByteSize::mib(1)).await;
    assert!(
        matches!(&error, Err(BodyError::Workload(e)) if e.code == code::BODY_TOO_LARGE),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_fault_of_the_platform_is_caught_in_its_instance() {
    let platform = alone();
    let error = platform
        .failure("/fetch?http://orders.internal/break")
        .await;
    assert_eq!(error.code, code::INTERNAL);
    assert_eq!(platform.text("/hello").await, "hello\n");
    eventually("it ends", || platform.engine.stats().taken == 0).await;
}

#[tokio::test]
async fn a_drain_waits_and_then_cuts_off() {
    let platform = alone();
    platform.pool.ready().await.expect("it loads");
    let (waits, spins, ()) = tokio::join!(
        platform.get("/sleep?600000"),
        platform.get("/spin?0"),
        platform.pool.drain(Duration::from_millis(20)),
    );
    assert_eq!(failure(waits).code, code::INSTANCE_DIED);
    assert_eq!(failure(spins).code, code::INSTANCE_DIED);
    eventually("they end", || platform.engine.stats().taken == 0).await;
}
