//! Requests that share an instance of WASI 0.3: they overlap in it, and what one does to it the others are told.

use std::time::Duration;

use model::code;

use super::shared;
use crate::{
    support::eventually,
    wasm::platform::{Platform, failure, text},
};

const BRIEF: Duration = Duration::from_millis(300);

/// How many requests are in the pool's instances.
fn in_flight(platform: &Platform) -> u32 {
    let stats = platform.pool.stats();
    stats.instances.iter().map(|i| i.in_flight).sum()
}

/// The platform with its code loaded, so that all requests of a test meet in the instance that the first one starts.
async fn ready(requests: u32, concurrent: u32) -> Platform {
    let platform = shared(requests, concurrent);
    platform.pool.ready().await.expect("it loads");
    platform
}

#[tokio::test]
async fn two_requests_overlap_inside_one_instance() {
    let platform = ready(100, 2).await;
    // Each waits for the other, in the memory that they share: one after the other they would never end.
    let (one, other) = tokio::join!(platform.text("/overlap?2"), platform.text("/overlap?2"));
    assert_eq!((one.as_str(), other.as_str()), ("2 inside\n", "2 inside\n"));
    assert_eq!(platform.pool.stats().starts, 1);
    assert_eq!(platform.engine.stats().taken, 1, "one place for both");
}

#[tokio::test]
async fn no_more_than_the_manifest_says_are_in_one() {
    let platform = ready(100, 2).await;
    let (one, two, three) = tokio::join!(
        platform.text("/overlap?2"),
        platform.text("/overlap?2"),
        platform.get_within(BRIEF, "/overlap?2"),
    );
    assert_eq!((one, two), ("2 inside\n".into(), "2 inside\n".into()));
    assert_eq!(failure(three).code, code::WORKLOAD_TIMEOUT, "it was alone");
    assert_eq!(platform.pool.stats().starts, 2);
}

#[tokio::test]
async fn it_ends_after_so_many_requests_together() {
    let platform = ready(4, 2).await;
    for _ in 0..2 {
        tokio::join!(platform.text("/overlap?2"), platform.text("/overlap?2"));
    }
    assert!(platform.pool.stats().starts >= 1);
    for _ in 0..8 {
        platform.text("/again").await;
    }
    assert!(platform.pool.stats().starts >= 3, "each serves four");
    eventually("spent ones end", || platform.engine.stats().taken <= 1).await;
}

#[tokio::test]
async fn a_trap_fails_whoever_shares_the_instance_and_says_whose_it_was() {
    let platform = ready(100, 3).await;
    let (own, other, third) = tokio::join!(
        platform.failure("/among?3,trap"),
        platform.failure("/among?3,sleep,600000"),
        platform.failure("/among?3,sleep,600000"),
    );
    assert_eq!(own.code, code::GUEST_TRAPPED, "{own}");
    for other in [other, third] {
        assert_eq!(other.code, code::INSTANCE_DIED, "{other}");
        let says = "because another request that it served at the same time failed";
        assert!(other.message.contains(says), "{other}");
    }
    assert_eq!(platform.pool.stats().starts, 1);
    assert_eq!(
        platform.text("/again").await,
        "1",
        "the next is a fresh one"
    );
}

#[tokio::test]
async fn one_that_runs_out_of_time_while_it_waits_fails_alone() {
    let platform = ready(100, 2).await;
    let (late, other) = tokio::join!(
        platform.get_within(BRIEF, "/among?2,sleep,600000"),
        platform.text("/among?2,sleep,600"),
    );
    assert_eq!(failure(late).code, code::WORKLOAD_TIMEOUT);
    assert_eq!(other, "awake\n");
    assert_eq!(platform.text("/again").await, "1");
    assert_eq!(platform.pool.stats().starts, 2, "it took nobody after that");
    eventually("it ends with the last one aboard", || {
        platform.engine.stats().taken == 1
    })
    .await;
}

#[tokio::test]
async fn one_that_runs_out_of_time_and_does_not_let_go_takes_the_others_with_it() {
    let platform = ready(100, 2).await;
    let (spins, other) = tokio::join!(
        platform.get_within(BRIEF, "/among?2,spin,0"),
        platform.failure("/among?2,sleep,600000"),
    );
    assert_eq!(failure(spins).code, code::WORKLOAD_TIMEOUT);
    assert_eq!(other.code, code::INSTANCE_DIED, "{other}");
    assert!(other.message.contains("did not let go"), "{other}");
    assert_eq!(platform.text("/hello").await, "hello\n");
}

#[tokio::test]
async fn a_request_has_its_deadline_even_while_another_does_not_let_go() {
    let platform = ready(100, 2).await;
    let (spins, other) = tokio::join!(
        platform.get_within(4 * BRIEF, "/among?2,spin,0"),
        platform.get_within(BRIEF, "/among?2,sleep,600000"),
    );
    assert_eq!(failure(other).code, code::WORKLOAD_TIMEOUT);
    assert_eq!(failure(spins).code, code::WORKLOAD_TIMEOUT);
}

#[tokio::test]
async fn one_that_nobody_waits_for_leaves_the_others_alone() {
    let platform = ready(100, 2).await;
    let mut stays = Box::pin(platform.text("/among?2,sleep,200"));
    {
        let leaves = platform.get("/among?2,sleep,600000");
        tokio::select! {
            biased;
            _ = &mut stays => panic!("it waits for the other"),
            _ = leaves => panic!("it sleeps"),
            () = eventually("both are in", || in_flight(&platform) == 2) => {}
        }
        // Until both have met in the guest, whoever leaves would leave the other waiting.
        for _ in 0..50 {
            tokio::select! {
                biased;
                _ = &mut stays => break,
                () = tokio::task::yield_now() => {}
            }
        }
    }
    assert_eq!(in_flight(&platform), 1);
    drop(stays);
    eventually("it ends when nobody is left", || {
        platform.engine.stats().taken == 0
    })
    .await;
}

#[tokio::test]
async fn what_each_prints_is_in_its_own_log() {
    let platform = ready(100, 2).await;
    tokio::join!(platform.text("/print?one"), platform.text("/print?two"));
    let lines = platform.asked.lines.lock().clone();
    assert_eq!(lines.len(), 6, "{lines:?}");
    let of = |name: &str| {
        let mut own = lines.iter().filter(|line| line.text.starts_with(name));
        let first = own.next().expect("a line");
        assert!(
            own.all(|line| line.invocation == first.invocation),
            "{name}"
        );
        first.invocation
    };
    assert!(of("one").is_some());
    assert_ne!(of("one"), of("two"));
}

#[tokio::test]
async fn what_each_sends_is_sent_as_its_own_invocation() {
    let platform = ready(100, 2).await;
    let (one, two) = (
        platform.invocation(Duration::from_secs(60)),
        platform.invocation(Duration::from_secs(60)),
    );
    let get = |path: &str| {
        let request = crate::wasm::platform::request("GET", path, runtime::Body::Empty);
        runtime::Input::http(request)
    };
    let (first, second) = tokio::join!(
        platform
            .pool
            .invoke(one.clone(), get("/fetch?http://orders.internal/one")),
        platform
            .pool
            .invoke(two.clone(), get("/fetch?http://orders.internal/two")),
    );
    for ran in [first, second] {
        text(ran.response.expect("an answer")).await;
    }
    let calls = platform.asked.calls.lock();
    for (caller, said) in calls.iter() {
        let working = caller.working.as_ref().expect("an invocation");
        let expected = if said.ends_with("/one") {
            one.id
        } else {
            two.id
        };
        assert_eq!(working.0.id, expected, "{said}");
    }
    assert_eq!(calls.len(), 2);
}
