//! Instances that serve several requests, where the manifest allows it.

use std::time::Duration;

use model::{Reuse, Run};

use super::platform::{Platform, text};
use crate::support::eventually;

fn platform(requests: u32, idle: Duration) -> Platform {
    Platform::with(|workload| {
        let Run::Wasm { reuse, .. } = &mut workload.run else {
            panic!("a Wasm workload");
        };
        *reuse = Some(Reuse {
            requests,
            idle,
            concurrent: 1,
        });
    })
}

const LONG: Duration = Duration::from_secs(600);

/// What a guest answers; it has ended then.
async fn get(platform: &Platform, path: &str) -> String {
    text(platform.get(path).await.response.expect("an answer")).await
}

#[tokio::test]
async fn an_instance_serves_so_many_requests_and_remembers() {
    let platform = platform(3, LONG);
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(get(&platform, "/again").await);
    }
    assert_eq!(seen, ["1", "2", "3", "1", "2", "3", "1"]);
    assert_eq!(platform.pool.stats().starts, 3);
}

#[tokio::test]
async fn without_leave_every_request_gets_a_fresh_one() {
    let platform = Platform::new();
    for _ in 0..3 {
        assert_eq!(get(&platform, "/again").await, "1");
    }
    assert_eq!(platform.engine.stats().taken, 0);
}

#[tokio::test]
async fn what_was_printed_belongs_to_its_request() {
    let platform = platform(10, LONG);
    for _ in 0..3 {
        get(&platform, "/again").await;
    }
    let lines = platform.asked.lines.lock();
    let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["request 1", "request 2", "request 3"]);
    let mut invocations: Vec<_> = lines.iter().map(|line| line.invocation).collect();
    invocations.dedup();
    assert_eq!(invocations.len(), 3, "each under its own invocation");
}

#[tokio::test]
async fn one_that_failed_or_was_left_serves_nobody_else() {
    let platform = platform(100, LONG);
    for bad in ["/trap", "/exit?0", "/exit?3", "/recurse?100000000"] {
        assert_eq!(get(&platform, "/again").await, "1", "after {bad}");
        drop(platform.get(bad).await.response);
    }
    get(&platform, "/again").await;
    // Whoever stops reading cuts its guest off.
    drop(
        platform
            .get("/stream?1000000")
            .await
            .response
            .expect("a head"),
    );
    assert_eq!(get(&platform, "/again").await, "1");
}

#[tokio::test]
async fn those_at_work_at_the_same_time_are_different_ones() {
    let platform = platform(100, LONG);
    let (one, other) = tokio::join!(get(&platform, "/sleep?50"), get(&platform, "/sleep?50"));
    assert_eq!(one, other);
    assert_eq!(platform.pool.stats().starts, 2);
    assert_eq!(platform.engine.stats().taken, 2, "both are kept");
    let _ = tokio::join!(get(&platform, "/sleep?50"), get(&platform, "/sleep?50"));
    assert_eq!(platform.pool.stats().starts, 2);
}

#[tokio::test]
async fn idle_ones_end_and_so_do_all_when_the_pool_drains() {
    let brief = platform(100, Duration::from_millis(50));
    get(&brief, "/again").await;
    eventually("it was idle for too long", || {
        brief.engine.stats().taken == 0
    })
    .await;
    assert_eq!(get(&brief, "/again").await, "1");
    let platform = platform(100, LONG);
    get(&platform, "/again").await;
    assert_eq!(platform.engine.stats().taken, 1);
    platform.pool.drain(Duration::ZERO).await;
    assert_eq!(platform.engine.stats().taken, 0);
}
