//! Guests that take what they can get: each gets its own share, and the others do not notice.

use futures_util::future::join_all;
use model::code;
use runtime::{Body, Input, wasm::Used};

use super::platform::{Platform, request};

#[tokio::test]
async fn a_guest_that_leaks_handles_ends_alone() {
    let platform = Platform::new();
    for kind in ["pollables", "fields", "streams"] {
        let path = format!("/leak?{kind}");
        let (leaks, hello) = tokio::join!(platform.failure(&path), platform.text("/hello"));
        assert_eq!(leaks.code, code::GUEST_TRAPPED, "{kind}");
        assert!(leaks.message.contains("resource table"), "{kind}: {leaks}");
        assert_eq!(hello, "hello\n");
    }
    assert_eq!(platform.engine.stats().taken, 0);
    assert_eq!(platform.pool.stats().failures, 3);
}

#[tokio::test]
async fn a_guest_has_a_bounded_number_of_requests_under_way() {
    let platform = Platform::new();
    assert_eq!(platform.text("/fan-out?1000").await, "1000");
    let under_way = &platform.asked.under_way;
    let most = under_way.1.load(std::sync::atomic::Ordering::SeqCst);
    assert!((64..=128).contains(&most), "{most}");
    assert_eq!(platform.asked.calls.lock().len(), 1000);
    // More than it may have handles for.
    let error = platform.failure("/fan-out?10000").await;
    assert_eq!(error.code, code::GUEST_TRAPPED);
    assert_eq!(platform.text("/hello").await, "hello\n");
    assert_eq!(platform.engine.stats().taken, 0);
}

#[tokio::test]
async fn headers_have_a_bound() {
    let platform = Platform::new();
    let error = platform.failure("/headers").await;
    assert_eq!(error.code, code::GUEST_TRAPPED, "{error}");
    assert!(
        error.message.contains("size of fields exceeds limit"),
        "{error}"
    );
}

#[tokio::test]
async fn random_bytes_are_made_so_many_at_once() {
    let platform = Platform::new();
    assert_eq!(platform.text("/random?262144").await, "262144\n");
    let error = platform.failure("/random?262145").await;
    assert_eq!(error.code, code::GUEST_TRAPPED);
    assert!(error.message.contains("exceeds limit"), "{error}");
}

#[tokio::test]
async fn a_workload_that_floods_from_many_requests_is_muted_and_says_so() {
    let platform = Platform::new();
    // Each stays within what one invocation may print.
    let requests = (0..30).map(|_| async { platform.text("/flood?900").await });
    for text in join_all(requests).await {
        assert_eq!(text, "flooded\n");
    }
    let lines = platform.lines();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("lines are dropped from here on")),
        "{} lines",
        lines.len()
    );
    assert!(lines.len() < 30 * 900);
}

#[tokio::test]
async fn the_pool_says_what_is_in_use() {
    let platform = Platform::new();
    let before = platform.engine.totals();
    assert!(
        before.kinds().iter().all(|(_, used)| used.used == 0),
        "{before:?}"
    );
    let input = Input::http(request("GET", "/stream?1000000000", Body::Empty));
    let ran = platform.input(input).await;
    let body = ran.response.expect("a head").into_body();
    let during = platform.engine.totals();
    assert_eq!(during.places, Used { used: 1, most: 32 });
    assert_eq!(during.components, Used { used: 1, most: 32 });
    assert_eq!(during.memories, Used { used: 1, most: 32 });
    assert_eq!(during.stacks, Used { used: 1, most: 32 });
    assert!(
        during.core_instances.used > 1 && during.tables.used > 0,
        "{during:?}"
    );
    drop(body);
    let after = platform.engine.totals();
    assert!(
        after.kinds().iter().all(|(_, used)| used.used == 0),
        "{after:?}"
    );
}
