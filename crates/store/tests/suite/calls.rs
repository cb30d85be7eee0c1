//! Asynchronous invocations: accepted once, tried, ended once, kept, purged.

use std::time::Duration;

use model::{Error as Fault, InvocationId, Name, RetryPolicy, Select, Target, Trigger, code};
use serde_json::json;
use store::{
    Error,
    calls::{CallFilter, CallResult, Consequence, NewCall, Spec, State},
    log::Attempt,
};

use crate::fixture::{Nodes, cause};

fn call(number: u128, bytes: usize) -> NewCall {
    let id: InvocationId = format!("{number:032x}").parse().expect("is one");
    NewCall {
        id,
        spec: Spec {
            target: Target {
                namespace: Name::default_namespace(),
                app: Name::literal("shop"),
                workload: Name::literal("w"),
                select: Select::Live,
            },
            trigger: Trigger::Direct,
            cause: cause(),
            retry: RetryPolicy::default(),
            callback: Some("http://127.0.0.1:1/done".to_owned()),
            destinations: model::Destinations::default(),
        },
        body: vec![b'x'; bytes],
    }
}

#[tokio::test]
async fn accepted_once_and_tried_again() {
    for nodes in Nodes::each().await {
        let (a, b) = (nodes.a.calls(), nodes.b.calls());
        let first = call(1, 100_000);
        let waiting = a
            .accept(first.clone())
            .await
            .expect("accepts")
            .expect("is new");
        assert_eq!(b.accept(first.clone()).await.expect("accepts"), None);
        let owned = a.owner(waiting.id).expect("a owns all");
        assert_eq!(
            b.waiting(&first.spec.target, 10).await.expect("reads"),
            [waiting]
        );

        let due = nodes.clock.now() + Duration::from_secs(5);
        let history = vec![Attempt {
            at: nodes.clock.now(),
            error: Fault::new(code::FUNCTION_ERROR, "no"),
        }];
        let retry = a
            .retry(owned, first.id, due, 1, history.clone())
            .expect("is open");
        retry.done().await.expect("commits");
        let stored = b.get(first.id).await.expect("reads").expect("is there");
        assert_eq!(
            (stored.due, stored.attempts, stored.state),
            (due, 1, State::Waiting)
        );
        assert_eq!((&stored.spec, &stored.history), (&first.spec, &history));
        let targets = b.targets().await.expect("reads");
        assert_eq!(targets.as_slice(), std::slice::from_ref(&first.spec.target));
        assert_eq!(b.body(stored.body).await.expect("reads"), first.body);

        nodes.ends().await;
    }
}

#[tokio::test]
async fn ended_once_with_what_it_causes() {
    for nodes in Nodes::each().await {
        let (a, b) = (nodes.a.calls(), nodes.b.calls());
        let first = call(1, 10);
        a.accept(first.clone()).await.expect("accepts");
        let owned = a.owner(first.id).expect("a owns all");
        let result = CallResult {
            status: 200,
            head: json!({"content-type": "text/plain"}),
            error: None,
        };
        let event = Consequence {
            kind: "publish",
            key: first.id.to_string(),
            payload: vec![1],
        };
        let finish = || {
            let body = b"fine".to_vec();
            a.finish(
                owned,
                first.id,
                State::Done,
                &result,
                body,
                1,
                &[],
                vec![event.clone()],
            )
        };
        finish().await.expect("ends");
        assert!(
            matches!(finish().await, Err(Error::NotFound(_))),
            "only once"
        );
        let stored = b.get(first.id).await.expect("reads").expect("is there");
        assert_eq!(
            (stored.state, stored.result.as_ref()),
            (State::Done, Some(&result))
        );
        let body = stored.result_body.expect("has one");
        assert_eq!(b.body(body).await.expect("reads"), "fine");
        assert!(
            b.waiting(&first.spec.target, 10)
                .await
                .expect("reads")
                .is_empty()
        );

        one_is_in_the_outbox(&nodes, &first.id.to_string()).await;
        nodes.ends().await;
    }
}

async fn one_is_in_the_outbox(nodes: &Nodes, key: &str) {
    let (a, b) = (nodes.a.outbox(), nodes.b.outbox());
    let work = b.next("publish", 10).await.expect("reads");
    assert_eq!(work.len(), 1);
    a.later(work[0].id, Duration::from_secs(9))
        .await
        .expect("waits");
    let work = b.next("publish", 10).await.expect("reads");
    assert_eq!((work[0].attempts, work[0].key.as_str()), (1, key));
    a.done(work[0].id).await.expect("is done");
    assert!(b.next("publish", 10).await.expect("reads").is_empty());
}

#[tokio::test]
async fn what_ran_waits_again_an_attempt_poorer() {
    for nodes in Nodes::each().await {
        let calls = nodes.a.calls();
        let waiting = calls
            .accept(call(1, 1))
            .await
            .expect("accepts")
            .expect("is new");
        calls.accept(call(2, 1)).await.expect("accepts");
        let owned = calls.owner(waiting.id).expect("a owns all");
        calls.note_running(owned, waiting.id, 1).expect("is open");
        nodes.a.flush().await.expect("commits");
        calls.recover().await.expect("recovers");
        let ran = calls
            .get(waiting.id)
            .await
            .expect("reads")
            .expect("is there");
        assert_eq!((ran.attempts, ran.history.len()), (1, 1));
        assert_eq!(calls.count_waiting().await.expect("reads"), 2);
        nodes.ends().await;
    }
}

#[tokio::test]
async fn lists_are_newest_first_and_old_ends_are_purged() {
    for nodes in Nodes::each().await {
        let calls = nodes.a.calls();
        for number in 1..=5 {
            let waiting = calls
                .accept(call(number, 1))
                .await
                .expect("accepts")
                .expect("is new");
            if number <= 3 {
                let owned = calls.owner(waiting.id).expect("a owns all");
                let result = CallResult {
                    status: 502,
                    head: json!({}),
                    error: Some(Fault::new(code::FUNCTION_ERROR, "no")),
                };
                let id = waiting.id;
                let end = calls.finish(owned, id, State::Failed, &result, vec![], 1, &[], vec![]);
                end.await.expect("ends");
            }
        }
        let failed = CallFilter {
            state: Some(State::Failed),
            ..CallFilter::default()
        };
        let list = nodes.b.calls().list(failed, None, 2).await.expect("reads");
        let seqs: Vec<_> = list.iter().map(|call| call.seq).collect();
        assert_eq!(seqs, [3, 2]);
        let older = nodes
            .b
            .calls()
            .list(CallFilter::default(), Some(2), 10)
            .await;
        assert_eq!(older.expect("reads").len(), 1);

        assert_eq!(
            calls.purge(Duration::from_secs(60)).await.expect("purges"),
            0
        );
        nodes.clock.advance(Duration::from_secs(61));
        assert_eq!(
            calls.purge(Duration::from_secs(60)).await.expect("purges"),
            3
        );
        assert_eq!(
            calls
                .list(CallFilter::default(), None, 10)
                .await
                .expect("reads")
                .len(),
            2
        );
        nodes.ends().await;
    }
}
