//! Instances that work on several invocations at a time: under the shipped bootstraps, and under AWS's own clients.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use model::{Clock, Time, Workload};
use runtime::{Input, InstanceState};
use serde_json::{Value, json};

use super::{
    clients::{installed, node, rust_guest},
    platform::{self, Lambda, Options},
};
use crate::support::eventually;

/// Three that wait for each other, each as often as it is asked.
const PYTHON: &str = "
import logging, os, threading, time
inside, most, lock = 0, 0, threading.Lock()
def handler(event, context):
    global inside, most
    with lock:
        inside += 1
        most = max(most, inside)
    try:
        if event == 'meet':
            until = time.time() + 20
            while most < 3 and time.time() < until: time.sleep(0.005)
        if event == 'exit':
            while inside < 2: time.sleep(0.005)
            os._exit(3)
        if event in ('hang', 'wait'):
            go = os.path.join(os.environ['TMPDIR'], 'go')
            while event == 'hang' or not os.path.exists(go): time.sleep(0.005)
        if event == 'error': raise LookupError('no such order')
        return {'pid': os.getpid(), 'id': context.aws_request_id, 'most': most, 'event': event,
                'trace': os.environ.get('_X_AMZN_TRACE_ID')}
    finally:
        with lock: inside -= 1
";

const NODE: &str = "
const { existsSync } = require('node:fs');
let inside = 0, most = 0;
const pause = () => new Promise((yes) => setTimeout(yes, 5));
exports.handler = async (event, context) => {
  inside += 1;
  most = Math.max(most, inside);
  try {
    if (event === 'meet') for (let n = 0; most < 3 && n < 4000; n += 1) await pause();
    if (event === 'exit') { while (inside < 2) await pause(); process.exit(3); }
    while (event === 'hang' || (event === 'wait' && !existsSync(`${process.env.TMPDIR}/go`))) await pause();
    if (event === 'error') { const e = new Error('no such order'); e.name = 'LookupError'; throw e; }
    return { pid: process.pid, id: context.awsRequestId, most, event, trace: process.env._X_AMZN_TRACE_ID ?? null };
  } finally {
    inside -= 1;
  }
};";

/// One instance that works on three at a time.
fn three(workload: &mut Workload) {
    workload.scale.max = 1;
    workload.scale.concurrency = 3;
    workload.timeout = Duration::from_secs(30);
}

#[tokio::test]
async fn python_works_on_several_in_threads() {
    let lambda = Options::python(PYTHON).change(three).start();
    meet(&lambda).await;
    die_together(&lambda).await;
}

#[tokio::test]
async fn node_works_on_several_between_its_waits() {
    let lambda = Options::node("main.js", NODE).change(three).start();
    meet(&lambda).await;
    die_together(&lambda).await;
}

#[tokio::test]
async fn aws_lambda_ric_asks_with_as_many_workers_as_it_likes() {
    let (Some(client), Some(node)) = (installed("node_modules/aws-lambda-ric/index.mjs"), node())
    else {
        return;
    };
    let script = format!("#!/bin/sh\nexec {} {}\n", node.display(), client.display());
    // Its workers are threads with memories of their own, so that these cannot wait for each other there.
    let source = NODE
        .replace("most < 3 && ", "")
        .replace("n < 4000", "n < 100");
    let lambda = Options::provided(&script)
        .file("main.js", &source)
        .change(three)
        .start();
    lambda.call(json!("first")).await;
    let busy = async {
        eventually("three are under way", || in_flight(&lambda) == 3).await;
    };
    let (answers, ()) = tokio::join!(all(&lambda, &["meet"; 9]), busy);
    let pid = &answers[0]["pid"];
    assert!(
        answers.iter().all(|answer| answer["pid"] == *pid),
        "{answers:?}"
    );
}

#[tokio::test]
async fn lambda_runtime_for_rust_asks_for_several() {
    let script = format!("#!/bin/sh\nexec {}\n", rust_guest().display());
    let lambda = Options::provided(&script).change(three).start();
    let first = lambda.call(json!("first")).await;
    let answers = all(&lambda, &["meet"; 3]).await;
    assert!(answers.iter().all(|answer| answer["pid"] == first["pid"]));
    let answers = all(&lambda, &["more"; 9]).await;
    assert!(answers.iter().all(|answer| answer["pid"] == first["pid"]));
}

#[tokio::test]
async fn one_that_is_late_ends_alone_and_the_instance_after_the_others() {
    let clock = Clock::virtual_at(Time(1_000_000_000_000));
    for options in [Options::python(PYTHON), Options::node("main.js", NODE)] {
        let lambda = Arc::new(options.change(three).clock(&clock).start());
        let first = lambda.call(json!("first")).await;
        let run = |event: &'static str| {
            let lambda = Arc::clone(&lambda);
            tokio::spawn(async move {
                let invocation = Arc::new(lambda.invocation(Duration::from_secs(1000)));
                let input = Input::Payload(json!(event).to_string().into());
                let ran = lambda.pool.invoke(invocation, input).await;
                platform::json(ran.response.expect("an answer")).await
            })
        };
        let hangs = run("hang");
        eventually("one hangs", || in_flight(&lambda) == 1).await;
        clock.advance(Duration::from_secs(20));
        let waits = run("wait");
        eventually("another works beside it", || in_flight(&lambda) == 2).await;
        clock.advance(Duration::from_secs(15));
        let late = hangs.await.expect("no panic");
        assert_eq!(late["errorType"], "Sandbox.Timedout", "{late}");
        let message = late["errorMessage"].as_str().expect("a text");
        assert!(
            message.ends_with("Task timed out after 30.00 seconds"),
            "{late}"
        );
        let state = lambda.pool.stats().instances[0].state;
        assert_eq!(state, InstanceState::Draining, "it gets no more");
        for own in lambda.folders() {
            std::fs::write(own.join("go"), "").expect("can be written");
        }
        let waited = waits.await.expect("no panic");
        assert_eq!(
            (&waited["event"], &waited["pid"]),
            (&json!("wait"), &first["pid"])
        );
        lambda.until_instances(0).await;
        let next = lambda.call(json!("next")).await;
        assert_ne!(next["pid"], first["pid"]);
    }
}

fn in_flight(lambda: &Lambda) -> u32 {
    let instances = lambda.pool.stats().instances;
    instances.iter().map(|one| one.in_flight).sum()
}

async fn all(lambda: &Lambda, events: &[&str]) -> Vec<Value> {
    join_all(events.iter().map(|event| lambda.call(json!(event)))).await
}

/// Three at a time and no more, each with what is its own; errors are each one's own, too.
async fn meet(lambda: &Lambda) {
    let mut events = vec!["meet"; 7];
    events.push("last");
    let answers = all(lambda, &events).await;
    let pid = &answers[0]["pid"];
    for (answer, event) in answers.iter().zip(events) {
        assert_eq!(
            (&answer["pid"], &answer["event"]),
            (pid, &json!(event)),
            "{answer}"
        );
        assert!(
            answer["most"].as_u64().is_some_and(|most| most <= 3),
            "{answer}"
        );
        assert_eq!(
            answer["trace"],
            Value::Null,
            "the environment is everybody's"
        );
    }
    assert!(answers.iter().any(|answer| answer["most"] == 3));
    let error = lambda.error(json!("error")).await;
    assert_eq!(error["errorType"], "LookupError");
    assert_eq!(lambda.pool.stats().starts, 1);
    let presences = lambda.told.entered.lock().clone();
    eventually("nobody works", || {
        presences.iter().all(|p| p.only().is_none())
    })
    .await;
}

/// A process that ends takes with it all that it works on; another takes its place.
async fn die_together(lambda: &Lambda) {
    let (one, other) = tokio::join!(lambda.error(json!("exit")), lambda.error(json!("hang")));
    for error in [one, other] {
        assert_eq!(error["errorType"], "Runtime.ExitError", "{error}");
    }
    lambda.call(json!("next")).await;
}
