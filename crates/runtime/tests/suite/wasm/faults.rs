//! What goes wrong in a guest is a coded error of its own request, and of no other.

use std::{future::poll_fn, task::Poll, time::Duration};

use model::{ByteSize, Error, code};
use runtime::{Body, BodyError, Input};

use super::platform::{Platform, failure, request, text};
use crate::support::eventually;

#[tokio::test]
async fn a_guest_that_never_yields_starves_nobody() {
    let platform = Platform::new();
    platform.pool.ready().await.expect("it loads");
    // One thread for both: the quick one is answered while the other spins.
    let mut spin = Box::pin(platform.get("/spin?0"));
    let quick = tokio::select! {
        biased;
        _ = &mut spin => panic!("nothing ends a guest that has time left"),
        quick = platform.text("/hello") => quick,
    };
    assert_eq!(quick, "hello\n");
    assert_eq!(platform.engine.stats().taken, 1);
    drop(spin);
    assert_eq!(platform.engine.stats().taken, 0);
}

#[tokio::test]
async fn a_guest_that_nobody_polls_keeps_no_turn_from_the_others_of_its_workload() {
    let platform = Platform::new();
    platform.pool.ready().await.expect("it loads");
    let mut forgotten = Box::pin(platform.get("/spin?0"));
    for _ in 0..10 {
        let polled = poll_fn(|cx| Poll::Ready(forgotten.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        tokio::task::yield_now().await;
        let text = platform.text("/spin?10");
        let text = tokio::time::timeout(Duration::from_secs(30), text).await;
        assert_eq!(text.expect("it has its turns"), "done\n");
    }
}

#[tokio::test]
async fn a_guest_that_never_yields_ends_at_its_deadline() {
    let platform = Platform::new();
    platform.pool.ready().await.expect("it loads");
    let invocation = platform.invocation(Duration::from_millis(100));
    let input = Input::http(request("GET", "/spin?0", Body::Empty));
    let ran = platform.pool.invoke(invocation, input).await;
    assert!(ran.meter.cpu() > Duration::from_millis(1));
    assert_eq!(failure(ran).code, code::WORKLOAD_TIMEOUT);
    assert_eq!(platform.engine.stats().taken, 0);
}

#[tokio::test]
async fn a_guest_that_spins_within_its_time_is_let_be() {
    let platform = Platform::new();
    let ran = platform.get("/spin?20").await;
    assert_eq!(text(ran.response.expect("an answer")).await, "done\n");
    assert!(ran.meter.cpu() > Duration::from_millis(1));
}

#[tokio::test]
async fn a_guest_that_waits_ends_at_its_deadline() {
    let platform = Platform::new();
    platform.pool.ready().await.expect("it loads");
    let ran = platform.pool.invoke(
        platform.invocation(Duration::from_millis(50)),
        Input::http(request("GET", "/sleep?600000", Body::Empty)),
    );
    assert_eq!(failure(ran.await).code, code::WORKLOAD_TIMEOUT);
}

#[tokio::test]
async fn memory_is_limited() {
    let platform = Platform::with(|workload| workload.memory = ByteSize::mib(32));
    assert_eq!(platform.text("/memory?10").await, "10\n");
    let ran = platform.get("/memory?100").await;
    let peak = ran.meter.memory();
    assert!((16 << 20..=32 << 20).contains(&peak), "{peak}");
    let error = failure(ran);
    assert_eq!(error.code, code::GUEST_MEMORY);
    assert_eq!(
        error.message,
        "`shop/behaviours` needed more than its 32MiB of memory"
    );
    assert_eq!(platform.text("/hello").await, "hello\n");
    let tiny = Platform::with(|workload| workload.memory = ByteSize::kib(64));
    assert_eq!(tiny.failure("/hello").await.code, code::GUEST_MEMORY);
}

#[tokio::test]
async fn memory_of_all_guests_together_is_limited() {
    let platform = Platform::with(|workload| workload.memory = ByteSize::mib(512));
    let error = platform.failure("/memory?300").await;
    assert_eq!(error.code, code::SERVER_FULL, "{error}");
    assert!(error.message.contains("192MiB"), "{error}");
    assert!(error.retry_after.is_some());
    assert_eq!(platform.engine.stats().guest_memory, 0, "it is given back");
    assert_eq!(platform.text("/memory?100").await, "100\n");
}

#[tokio::test]
async fn a_workload_that_takes_memory_leaves_a_quarter_to_others() {
    let platform = Platform::with(|workload| workload.memory = ByteSize::mib(512));
    let other = platform.another();
    let ask = |path| {
        let input = Input::http(request("GET", path, Body::Empty));
        other.invoke(platform.invocation(Duration::from_secs(60)), input)
    };
    let mut held = Box::pin(platform.get("/hold?180"));
    let has_it = || platform.engine.stats().guest_memory > 180 << 20;
    tokio::select! {
        _ = &mut held => panic!("it keeps what it has"),
        () = eventually("it has it", has_it) => {}
    }
    assert_eq!(platform.failure("/memory?20").await.code, code::SERVER_FULL);
    let ran = ask("/memory?50").await;
    assert_eq!(text(ran.response.expect("an answer")).await, "50\n");
    // What all have together is bounded as before.
    assert_eq!(failure(ask("/memory?100").await).code, code::SERVER_FULL);
}

#[tokio::test]
async fn a_trap_is_an_error_with_a_backtrace_for_the_operator() {
    let platform = Platform::new();
    let error = platform.failure("/trap").await;
    assert_eq!(error.code, code::GUEST_TRAPPED);
    assert_eq!(
        error.message,
        "`shop/behaviours` trapped: wasm `unreachable` instruction executed"
    );
    let context = error.context.expect("a backtrace");
    assert!(context.contains("behaviours"), "{context}");
    assert!(
        platform
            .lines()
            .iter()
            .any(|line| line.contains("on purpose"))
    );
    assert_eq!(platform.text("/hello").await, "hello\n");
    assert_eq!(platform.pool.stats().failures, 1);
}

#[tokio::test]
async fn a_guest_that_recurses_for_ever_traps() {
    let platform = Platform::new();
    let error = platform.failure("/recurse").await;
    assert_eq!(error.code, code::GUEST_TRAPPED);
    assert_eq!(platform.text("/hello").await, "hello\n");
}

#[tokio::test]
async fn a_drain_waits_and_then_cuts_off() {
    let platform = Platform::new();
    platform.pool.ready().await.expect("it loads");
    let (waits, spins, ()) = tokio::join!(
        platform.get("/sleep?600000"),
        platform.get("/spin?0"),
        platform.pool.drain(Duration::from_millis(20)),
    );
    assert_eq!(failure(waits).code, code::INSTANCE_DIED);
    assert_eq!(failure(spins).code, code::INSTANCE_DIED);
    assert_eq!(platform.engine.stats().taken, 0);
}

#[tokio::test]
async fn a_drain_lets_a_guest_finish() {
    let platform = Platform::new();
    platform.pool.ready().await.expect("it loads");
    let (text, ()) = tokio::join!(
        platform.text("/sleep?20"),
        platform.pool.drain(Duration::from_secs(60)),
    );
    assert_eq!(text, "awake\n");
}

#[tokio::test]
async fn what_is_no_response_says_why() {
    let platform = Platform::new();
    let check = async |path: &str, code, says: &str| {
        let error: Error = platform.failure(path).await;
        assert_eq!(error.code, code, "{path}: {error}");
        assert!(error.message.contains(says), "{path}: {error}");
    };
    check("/silent", code::NO_RESPONSE, "without setting a response").await;
    check(
        "/refuse",
        code::NO_RESPONSE,
        "an error instead of a response",
    )
    .await;
    check("/exit?0", code::NO_RESPONSE, "without setting a response").await;
    check("/exit?1", code::GUEST_TRAPPED, "exited with status 1").await;
    check("/promise", code::NO_RESPONSE, "announced a length").await;
    check("/abandon", code::NO_RESPONSE, "abandoned the body").await;
    check("/informational", code::NO_RESPONSE, "informational status").await;
}

#[tokio::test]
async fn a_trap_after_the_head_fails_the_body() {
    let platform = Platform::new();
    let ran = platform.get("/trap-late").await;
    let response = ran.response.expect("the head was sent before");
    let error = response.into_body().collect(ByteSize::mib(1)).await;
    let Err(BodyError::Workload(error)) = error else {
        panic!("the body has to fail: {error:?}");
    };
    assert_eq!(error.code, code::GUEST_TRAPPED);
    assert_eq!(ran.meter.failure(), Some(&error));
}

#[tokio::test]
async fn a_fault_of_the_platform_is_caught_at_the_invocation() {
    let platform = Platform::new();
    let error = platform
        .failure("/fetch?http://orders.internal/break")
        .await;
    assert_eq!(error.code, code::INTERNAL);
    assert_eq!(platform.text("/hello").await, "hello\n");
    assert_eq!(platform.engine.stats().taken, 0);
}

#[tokio::test]
async fn a_request_body_that_fails_is_not_the_guests_failure() {
    let platform = Platform::new();
    let limit = ByteSize::kib(1);
    let frames = [
        Ok(http_body::Frame::data("some".into())),
        Err(BodyError::TooLarge(limit)),
    ];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let input = Input::http(request("POST", "/count", Body::stream(body)));
    let error = failure(platform.input(input).await);
    assert_eq!(error.code, code::BODY_TOO_LARGE);
}
