//! Asynchronous invocations as their loop uses them.

use std::time::Duration;

use bus::{
    CALL_DESTINED, CALL_ENDED, CallAttempt, CallResult, CallSettled, CallState, Condition, NewCall,
};
use bytes::Bytes;
use model::{
    Destination, Destinations, InvocationId, Name, RetryPolicy, Select, Target, Trigger, code,
};
use serde_json::json;

use crate::fixture::{Fixture, cause, fault};

fn target(workload: &str) -> Target {
    Target {
        namespace: Name::default_namespace(),
        app: Name::literal("shop"),
        workload: Name::new(workload).expect("is a name"),
        select: Select::Live,
    }
}

fn call(number: u128, workload: &str) -> NewCall {
    NewCall {
        id: id(number),
        target: target(workload),
        trigger: Trigger::Direct,
        cause: cause(),
        input: format!("input {number}").into(),
        callback: None,
        retry: RetryPolicy {
            attempts: 2,
            ..RetryPolicy::default()
        },
        destinations: Destinations::default(),
    }
}

fn id(number: u128) -> InvocationId {
    format!("{number:032x}").parse().expect("is one")
}

async fn next(fixture: &Fixture) -> CallAttempt {
    let calls = fixture.bus.calls();
    loop {
        let target = calls.ready().await;
        if let Some(attempt) = calls.take(&target).await {
            return attempt;
        }
    }
}

async fn none(fixture: &Fixture) -> bool {
    let next = tokio::time::timeout(Duration::from_millis(100), next(fixture));
    next.await.is_err()
}

fn answer() -> CallResult {
    CallResult {
        status: 200,
        head: json!({"content-type": "text/plain"}),
        body: "fine".into(),
    }
}

#[tokio::test]
async fn accepted_tried_again_and_done() {
    let fixture = Fixture::new().await;
    let calls = fixture.bus.calls();
    calls.accept(call(1, "w")).await.expect("accepts");
    calls.accept(call(1, "w")).await.expect("is idempotent");
    let state = async || {
        calls
            .status(id(1))
            .await
            .expect("reads")
            .expect("is known")
            .state
    };
    assert_eq!(state().await, CallState::Waiting);
    let first = next(&fixture).await;
    assert_eq!((first.attempt, &first.input[..]), (1, &b"input 1"[..]));
    assert_eq!(state().await, CallState::Running);
    calls
        .settle(first, CallSettled::Retry(fault(), Bytes::new()))
        .await
        .expect("settles");
    assert!(none(&fixture).await, "it waits");
    fixture.clock.advance(Duration::from_secs(2));
    let second = next(&fixture).await;
    assert_eq!(second.attempt, 2);
    calls
        .settle(second, CallSettled::Done(answer()))
        .await
        .expect("settles");
    calls.ended().await;
    let status = calls.status(id(1)).await.expect("reads").expect("is known");
    assert_eq!((status.state, status.attempts), (CallState::Done, 2));
    assert_eq!((status.result, status.error), (Some(answer()), None));
    let work = fixture
        .store
        .outbox()
        .next(CALL_ENDED, 9)
        .await
        .expect("reads");
    assert_eq!(work[0].key, id(1).to_string());
    assert!(none(&fixture).await, "it was accepted once");
    assert_eq!(calls.status(id(2)).await.expect("reads"), None);
}

#[tokio::test]
async fn the_last_failure_is_kept_with_its_error() {
    let fixture = Fixture::new().await;
    let calls = fixture.bus.calls();
    calls.accept(call(1, "w")).await.expect("accepts");
    for _ in 0..2 {
        let attempt = next(&fixture).await;
        calls
            .settle(attempt, CallSettled::Retry(fault(), Bytes::new()))
            .await
            .expect("settles");
        fixture.clock.advance(Duration::from_secs(2));
    }
    let status = calls.status(id(1)).await.expect("reads").expect("is known");
    assert_eq!(
        (status.state, status.error),
        (CallState::Failed, Some(fault()))
    );
    assert!(status.result.is_none());
}

#[tokio::test]
async fn a_target_that_is_parked_holds_up_no_other() {
    let fixture = Fixture::new().await;
    let calls = fixture.bus.calls();
    for number in 1..=3 {
        calls.accept(call(number, "down")).await.expect("accepts");
    }
    calls.accept(call(4, "up")).await.expect("accepts");
    let mut done = Vec::new();
    while done.is_empty() {
        let ready = calls.ready().await;
        if ready == target("down") {
            calls.park(&ready, Duration::from_secs(5));
        } else {
            done.push(calls.take(&ready).await.expect("has one"));
        }
    }
    assert_eq!(done[0].id, id(4));
    if calls.counts().0 == 3 && !none(&fixture).await {
        panic!("`down` was parked for longer");
    }
    fixture.clock.advance(Duration::from_secs(6));
    assert_eq!(next(&fixture).await.target, target("down"));
}

#[tokio::test]
async fn an_attempt_that_is_dropped_is_made_again() {
    let fixture = Fixture::new().await;
    let calls = fixture.bus.calls();
    calls.accept(call(1, "w")).await.expect("accepts");
    drop(next(&fixture).await);
    fixture.store.flush().await.expect("commits");
    fixture.clock.advance(Duration::from_secs(2));
    assert_eq!(next(&fixture).await.attempt, 2);
}

#[tokio::test]
async fn a_call_that_kills_the_server_again_and_again_fails() {
    let mut fixture = Fixture::new().await;
    fixture
        .bus
        .calls()
        .accept(call(1, "w"))
        .await
        .expect("accepts");
    for attempt in 1..=2 + bus::FORGIVEN {
        let taken = next(&fixture).await;
        assert_eq!(taken.attempt, attempt);
        std::mem::forget(taken);
        fixture.store.flush().await.expect("commits what is noted");
        fixture = fixture.crash().await;
    }
    assert!(none(&fixture).await);
    let status = fixture
        .bus
        .calls()
        .status(id(1))
        .await
        .expect("reads")
        .expect("is known");
    let code = status.error.map(|error| error.code);
    assert_eq!(
        (status.state, code),
        (CallState::Failed, Some(code::SHUTTING_DOWN))
    );
}

#[tokio::test]
async fn more_than_the_window_of_one_target_is_all_done() {
    let fixture = Fixture::new().await;
    let calls = fixture.bus.calls();
    let many = 6000;
    let accepting: Vec<_> = (1..=many)
        .map(|number| {
            let calls = calls.clone();
            tokio::spawn(async move { calls.accept(call(number, "w")).await })
        })
        .collect();
    for accepted in accepting {
        accepted.await.expect("runs").expect("accepts");
    }
    assert!(calls.counts().0 < 5000, "memory is bounded");
    let mut seen = std::collections::HashSet::new();
    let mut settling = Vec::new();
    for _ in 0..many {
        let attempt = next(&fixture).await;
        assert!(seen.insert(attempt.id), "twice");
        let calls = calls.clone();
        settling.push(tokio::spawn(async move {
            calls.settle(attempt, CallSettled::Done(answer())).await
        }));
    }
    for settled in settling {
        settled.await.expect("runs").expect("settles");
    }
    assert!(none(&fixture).await);
}

fn destined(number: u128) -> NewCall {
    NewCall {
        destinations: Destinations {
            on_success: None,
            on_failure: Some(Destination::Events),
        },
        ..call(number, "w")
    }
}

async fn outbox(fixture: &Fixture, kind: &'static str) -> Vec<String> {
    let work = fixture.store.outbox().next(kind, 9).await.expect("reads");
    work.into_iter().map(|work| work.key).collect()
}

/// Nothing runs between the end and what follows from it but the commit: it is there after a crash, with all that the
/// record is made of.
#[tokio::test]
async fn the_destination_of_an_end_is_committed_with_it() {
    let fixture = Fixture::new().await;
    let calls = fixture.bus.calls();
    for number in [1, 2] {
        calls.accept(destined(number)).await.expect("accepts");
    }
    let first = next(&fixture).await;
    let (done, failing) = (first.id, next(&fixture).await);
    calls
        .settle(first, CallSettled::Done(answer()))
        .await
        .expect("settles");
    let failed = failing.id;
    calls
        .settle(failing, CallSettled::Retry(fault(), "{}".into()))
        .await
        .expect("settles");
    assert_eq!(
        outbox(&fixture, CALL_DESTINED).await,
        [""; 0],
        "it is tried again"
    );
    fixture.clock.advance(Duration::from_secs(2));
    let last = next(&fixture).await;
    let answered = Bytes::from_static(b"{\"errorType\":\"E\"}");
    calls
        .settle(last, CallSettled::Retry(fault(), answered.clone()))
        .await
        .expect("settles");
    let fixture = fixture.crash().await;
    let calls = fixture.bus.calls();
    assert_eq!(outbox(&fixture, CALL_DESTINED).await, [failed.to_string()]);
    let mut ended = outbox(&fixture, CALL_ENDED).await;
    ended.sort();
    assert_eq!(ended, [id(1).to_string(), id(2).to_string()]);
    let ended = calls
        .ended_call(failed)
        .await
        .expect("reads")
        .expect("has ended");
    assert_eq!(ended.condition, Condition::RetriesExhausted);
    assert_eq!(ended.destination, Some(Destination::Events));
    assert_eq!((ended.failure, ended.status.attempts), (answered, 2));
    assert_eq!(ended.input, format!("input {}", failed.0.as_u128()));
    let ended = calls
        .ended_call(done)
        .await
        .expect("reads")
        .expect("has ended");
    assert_eq!(
        (ended.condition, ended.destination),
        (Condition::Success, None)
    );
}

#[tokio::test]
async fn what_waits_longer_than_it_may_is_given_up_untried() {
    let fixture = Fixture::new().await;
    let calls = fixture.bus.calls();
    let mut call = destined(1);
    call.retry.max_age = Duration::from_secs(60);
    calls.accept(call).await.expect("accepts");
    let target = calls.ready().await;
    calls.park(&target, Duration::from_secs(61));
    fixture.clock.advance(Duration::from_secs(62));
    assert!(none(&fixture).await, "it is too old");
    let ended = calls
        .ended_call(id(1))
        .await
        .expect("reads")
        .expect("has ended");
    assert_eq!(ended.condition, Condition::EventAgeExceeded);
    assert_eq!(
        (ended.status.state, ended.status.attempts),
        (CallState::Failed, 0)
    );
    assert_eq!(outbox(&fixture, CALL_DESTINED).await, [id(1).to_string()]);
}
