//! Guests of WASI 0.3 that take what they can get: each gets its own share, and the others do not notice.

use futures_util::future::join_all;
use model::code;
use std::sync::atomic::Ordering::SeqCst;

use super::alone;
use crate::support::eventually;

#[tokio::test]
async fn a_guest_that_leaks_ends_alone() {
    let platform = alone();
    platform.pool.ready().await.expect("it loads");
    let kinds = [
        ("streams", "streams, futures, tasks"),
        ("futures", "streams, futures, tasks"),
        ("timers", "streams, futures, tasks"),
        ("fields", "resource table"),
        ("requests", ""),
    ];
    for (kind, says) in kinds {
        let path = format!("/leak?{kind}");
        let (leaks, hello) = tokio::join!(platform.failure(&path), platform.text("/hello"));
        assert_eq!(leaks.code, code::GUEST_TRAPPED, "{kind}: {leaks}");
        assert!(leaks.message.contains(says), "{kind}: {leaks}");
        assert_eq!(hello, "hello\n");
    }
    eventually("all have ended", || platform.engine.stats().taken == 0).await;
    assert_eq!(platform.pool.stats().failures, 5);
}

#[tokio::test]
async fn a_guest_has_a_bounded_number_of_requests_under_way() {
    let platform = alone();
    assert_eq!(platform.text("/fan-out?300").await, "300");
    let most = platform.asked.under_way.1.load(SeqCst);
    assert!((64..=128).contains(&most), "{most}");
    assert_eq!(platform.asked.calls.lock().len(), 300);
    // More than it may have streams and futures for.
    let error = platform.failure("/fan-out?10000").await;
    assert_eq!(error.code, code::GUEST_TRAPPED, "{error}");
    assert_eq!(platform.text("/hello").await, "hello\n");
}

#[tokio::test]
async fn a_workload_that_floods_is_muted_and_says_so() {
    let platform = alone();
    let requests = (0..30).map(|_| async { platform.text("/flood?900").await });
    for text in join_all(requests).await {
        assert_eq!(text, "flooded\n");
    }
    let lines = platform.lines();
    let said = |line: &String| line.starts_with("lines are dropped from here on");
    assert!(lines.iter().any(said), "{} lines", lines.len());
    assert!(lines.len() < 30 * 900);
}
