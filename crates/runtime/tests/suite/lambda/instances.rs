//! How instances come, are shared, and go.

use std::{sync::Arc, time::Duration};

use model::{Clock, Time, code};
use runtime::{FunctionError, Input, InstanceState};
use serde_json::json;

use super::platform::{self, Options};
use crate::support::{alive, eventually, kill};

const PID: &str = "
import os, time
def handler(event, context):
    if event == 'exit': os._exit(7)
    if event == 'kill': os.kill(os.getpid(), 9)
    if event == 'child': os.system('sleep 1000 >/dev/null 2>&1 &')
    if isinstance(event, (int, float)): time.sleep(event)
    if event == 'eat': bytearray(400 << 20)
    if event == 'hang': time.sleep(1000)
    if event == 'meet':
        place = os.path.dirname(os.environ['TMPDIR'])
        open(os.path.join(place, 'here-%d' % os.getpid()), 'w').close()
        while len([n for n in os.listdir(place) if n.startswith('here-')]) < 2: time.sleep(0.005)
    return os.getpid()
";

#[tokio::test]
async fn an_instance_is_reused_and_only_its_first_call_is_a_cold_start() {
    let lambda = Options::python(PID).start();
    let first = lambda.input(Input::Payload("0".into())).await;
    let cold = first.meter.cold().expect("it waited for the instance");
    assert!(cold.spawn > Duration::ZERO && cold.init > Duration::ZERO);
    let pid = platform::json(first.response.expect("an answer")).await;
    for _ in 0..50 {
        let next = lambda.input(Input::Payload("0".into())).await;
        assert_eq!(next.meter.cold(), None);
        assert!(next.meter.memory() > 1 << 20);
        assert_eq!(platform::json(next.response.expect("an answer")).await, pid);
    }
    let stats = lambda.pool.stats();
    assert_eq!(
        (stats.starts, stats.failures, stats.instances.len()),
        (1, 0, 1)
    );
    assert_eq!(Some(json!(stats.instances[0].pid)), Some(pid));
}

#[tokio::test]
async fn as_many_instances_as_calls_up_to_the_maximum() {
    let lambda = Options::python(PID).change(|w| w.scale.max = 3).start();
    let calls = (0..12).map(|_| lambda.call(json!(0.05)));
    let pids = futures_util::future::join_all(calls).await;
    let different: std::collections::BTreeSet<String> =
        pids.iter().map(ToString::to_string).collect();
    assert!((1..=3).contains(&different.len()), "{different:?}");
    assert_eq!(
        lambda.pool.stats().instances.len() as u64,
        lambda.pool.stats().starts
    );
    let presences = lambda.told.entered.lock().clone();
    eventually("nobody works", || {
        presences.iter().all(|p| p.only().is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_from_many_threads_every_caller_gets_its_own_answer() {
    let lambda = Arc::new(
        Options::python("def handler(event, context): return event")
            .change(|w| w.scale.max = 4)
            .start(),
    );
    let callers = (0..16_u32).map(|caller| {
        let lambda = Arc::clone(&lambda);
        tokio::spawn(async move {
            for n in 0..100_u32 {
                let padded = json!([caller, n, "x".repeat((n * 700) as usize)]);
                if n % 10 == 9 {
                    let hurried =
                        Arc::new(lambda.invocation(Duration::from_micros(u64::from(n) * 3)));
                    drop(
                        lambda
                            .pool
                            .invoke(hurried, Input::Payload(padded.to_string().into()))
                            .await,
                    );
                }
                assert_eq!(lambda.call(padded.clone()).await, padded);
            }
        })
    });
    for caller in futures_util::future::join_all(callers).await {
        caller.expect("no caller fails");
    }
    let stats = lambda.pool.stats();
    assert_eq!((stats.starts, stats.failures), (4, 0));
}

#[tokio::test]
async fn an_answer_is_read_on_the_thread_that_waits_for_it() {
    let lambda = Options::python(PID).change(|w| w.scale.max = 1).start();
    let pid = lambda.call(json!(0)).await;
    let presences = lambda.told.entered.lock().clone();
    for _ in 0..20 {
        eventually("it asks for more", || presences[0].only().is_none()).await;
        let elsewhere = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("an event queue").block_on(async {
                for _ in 0..2 {
                    assert_eq!(lambda.call(json!(0)).await, pid);
                }
            });
        };
        // This thread, on which the instance was started, does nothing meanwhile; when it does, the other's runtime is gone.
        std::thread::scope(|scope| scope.spawn(elsewhere).join()).expect("both are answered");
        assert_eq!(lambda.call(json!(0)).await, pid);
    }
    let stats = lambda.pool.stats();
    assert_eq!((stats.starts, stats.failures), (1, 0));
}

#[tokio::test]
async fn who_finds_no_place_before_the_deadline_is_told() {
    let lambda = Options::python(PID).change(|w| w.scale.max = 1).start();
    lambda.call(json!(0)).await;
    let busy = lambda.input(Input::Payload("\"hang\"".into()));
    let refused = async {
        eventually("it works", || {
            lambda.pool.stats().instances[0].state == InstanceState::Busy
        })
        .await;
        let late = lambda.invocation(Duration::from_millis(20));
        lambda
            .pool
            .invoke(Arc::new(late), Input::Payload("0".into()))
            .await
    };
    tokio::select! {
        _ = busy => panic!("it hangs"),
        refused = refused => {
            let error = refused.response.map(|r| r.status()).expect_err("no place");
            assert_eq!(error.code, code::DEADLINE_PASSED);
        }
    }
}

#[tokio::test]
async fn a_timeout_is_reported_as_aws_does_and_ends_the_instance() {
    let lambda = Options::python(PID)
        .change(|w| w.timeout = Duration::from_millis(300))
        .start();
    let pid = lambda
        .call(json!(0))
        .await
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok())
        .expect("a number");
    let error = lambda.error(json!("hang")).await;
    assert_eq!(error["errorType"], "Sandbox.Timedout");
    let message = error["errorMessage"].as_str().expect("a text");
    let worded = message.contains(" Error: Task timed out after ") && message.ends_with(" seconds");
    assert!(worded, "{message}");
    eventually("the process is gone", || !alive(pid)).await;
    assert_ne!(lambda.call(json!(0)).await, pid);
    let error = lambda.input(Input::Event(Arc::new(event_of("x")))).await;
    assert!(error.response.is_ok());
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_the_handler() {
    let lambda = Options::python(PID).start();
    let pid = lambda.call(json!(0)).await;
    let gone = lambda.input(Input::Payload("0.3".into()));
    tokio::select! {
        _ = gone => panic!("it takes longer"),
        () = eventually("it works", || lambda.pool.stats().instances[0].state == InstanceState::Busy) => {}
    }
    eventually("it is free again", || {
        lambda.pool.stats().instances[0].state == InstanceState::Idle
    })
    .await;
    assert_eq!(lambda.call(json!(0)).await, pid);
    assert_eq!(lambda.pool.stats().starts, 1);
}

#[tokio::test]
async fn a_deadline_that_is_shorter_than_the_timeout_does_not_cost_the_instance() {
    let lambda = Options::python(PID).start();
    let pid = lambda.call(json!(0)).await;
    let hurried = lambda.invocation(Duration::from_millis(50));
    let ran = lambda
        .pool
        .invoke(Arc::new(hurried), Input::Payload("0.4".into()))
        .await;
    let response = ran
        .response
        .expect("payloads get their errors as responses");
    assert!(response.extensions().get::<FunctionError>().is_some());
    assert_eq!(
        ran.meter.failure().map(|e| e.code),
        Some(code::WORKLOAD_TIMEOUT)
    );
    eventually("it is free again", || {
        lambda.pool.stats().instances[0].state == InstanceState::Idle
    })
    .await;
    assert_eq!(lambda.call(json!(0)).await, pid);
}

#[tokio::test]
async fn processes_that_end_are_replaced() {
    let lambda = Options::python(PID).start();
    let first = lambda.call(json!(0)).await;
    for (event, end) in [("exit", "exit status 7"), ("kill", "signal: killed")] {
        let error = lambda.error(json!(event)).await;
        assert_eq!(error["errorType"], "Runtime.ExitError");
        assert!(
            error["errorMessage"]
                .as_str()
                .is_some_and(|m| m.ends_with(end)),
            "{error}"
        );
    }
    let error = lambda.input(Input::Event(Arc::new(event_of("exit")))).await;
    assert!(error.response.is_ok(), "the envelope is no `exit`");
    let second = lambda.call(json!(0)).await;
    assert_ne!(first, second);
    kill(
        "-9",
        u32::try_from(second.as_u64().expect("a number")).expect("a pid"),
    );
    eventually("the death is noticed", || {
        lambda.pool.stats().instances.is_empty()
    })
    .await;
    assert_ne!(lambda.call(json!(0)).await, second);
    let stats = lambda.pool.stats();
    assert_eq!((stats.starts, stats.failures), (4, 3));
    let mut left = lambda.told.left.lock().clone();
    let entered: Vec<_> = lambda
        .told
        .entered
        .lock()
        .iter()
        .map(|p| p.instance)
        .collect();
    left.sort_unstable();
    assert!(left.len() == 3 && left.iter().all(|id| entered.contains(id)));
    assert!(
        lambda
            .notes()
            .iter()
            .any(|note| note == "ended by itself: signal 9 (kill)"),
        "{:?}",
        lambda.notes()
    );
}

#[tokio::test]
async fn what_an_instance_started_ends_with_it() {
    let lambda = Options::python(
        "
import os, subprocess
def handler(event, context):
    return [subprocess.Popen(['sleep', '1000']).pid, os.environ['TMPDIR']]
",
    )
    .start();
    let started = lambda.call(json!(0)).await;
    let child = started[0].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let child = child.expect("a number");
    let folder = lambda.folders().remove(0);
    assert_eq!(started[1].as_str(), folder.to_str());
    assert!(alive(child) && folder.exists());
    lambda.pool.drain(Duration::ZERO).await;
    eventually("the child is gone", || !alive(child)).await;
    eventually("its folder is gone", || !folder.exists()).await;
    let refused = lambda
        .input(Input::Payload("0".into()))
        .await
        .response
        .map(|r| r.status());
    assert_eq!(
        refused.expect_err("it is being stopped").code,
        code::WORKLOAD_GONE
    );
}

#[tokio::test]
async fn draining_waits_for_what_runs() {
    let lambda = Options::python(PID).start();
    lambda.call(json!(0)).await;
    let drained = async {
        eventually("it works", || {
            lambda.pool.stats().instances[0].state == InstanceState::Busy
        })
        .await;
        lambda.pool.drain(Duration::from_secs(20)).await;
    };
    let (answer, ()) = futures_util::future::join(lambda.call(json!(0.2)), drained).await;
    assert!(answer.is_u64());
    assert!(lambda.pool.stats().instances.is_empty());
}

#[tokio::test]
async fn instances_idle_until_their_time_is_over() {
    let clock = Clock::virtual_at(Time::from_millis(1_767_268_800_000));
    let lambda = Options::python(PID)
        .change(|w| (w.scale.idle, w.scale.min) = (Duration::from_secs(600), 1))
        .clock(&clock)
        .start();
    let both =
        futures_util::future::join(lambda.call(json!("meet")), lambda.call(json!("meet"))).await;
    assert_ne!(both.0, both.1);
    lambda.until_instances(2).await;
    eventually("both are free", || {
        lambda
            .pool
            .stats()
            .instances
            .iter()
            .all(|i| i.state == InstanceState::Idle)
    })
    .await;
    clock.advance(Duration::from_secs(300));
    let last = lambda.call(json!(0)).await;
    clock.advance(Duration::from_secs(301));
    lambda.until_instances(1).await;
    assert_eq!(
        lambda.call(json!(0)).await,
        last,
        "the one that was used last is kept"
    );
    clock.advance(Duration::from_secs(601));
    lambda.until_instances(0).await;
    let cold = lambda.input(Input::Payload("0".into())).await;
    assert!(cold.meter.cold().is_some());
}

#[tokio::test]
async fn the_minimum_is_started_ahead_kept_and_replaced() {
    let clock = Clock::virtual_at(Time::from_millis(1_767_268_800_000));
    let lambda = Options::python(PID)
        .change(|w| w.scale.min = 2)
        .clock(&clock)
        .start();
    lambda.pool.warm().await.expect("they start");
    let pids = lambda.pids();
    assert_eq!(pids.len(), 2);
    let ran = lambda.input(Input::Payload("0".into())).await;
    assert_eq!(ran.meter.cold(), None, "nobody waited");
    clock.advance(Duration::from_secs(3600));
    clock.advance(Duration::from_secs(3600));
    lambda.until_instances(2).await;
    kill("-9", pids[0]);
    eventually("another is started", || {
        let now = lambda.pids();
        now.len() == 2 && !now.contains(&pids[0])
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_never_asks_for_work_is_given_up() {
    let clock = Clock::virtual_at(Time::from_millis(1_767_268_800_000));
    let lambda = Options::python("import time\ntime.sleep(1000)")
        .clock(&clock)
        .start();
    let advance = async {
        eventually("it starts", || !lambda.pool.stats().instances.is_empty()).await;
        clock.advance(Duration::from_secs(11));
    };
    let (error, ()) = futures_util::future::join(lambda.error(json!(0)), advance).await;
    assert_eq!(error["errorType"], "Sandbox.Timedout");
    assert!(
        error["errorMessage"]
            .as_str()
            .is_some_and(|m| m.ends_with("Error: Init timed out after 10.00 seconds")),
        "{error}"
    );
    lambda.until_instances(0).await;
}

#[tokio::test]
async fn what_ends_before_it_is_ready_shows_what_it_wrote() {
    let lambda =
        Options::python("import sys\nprint('no database', file=sys.stderr)\nsys.exit(4)").start();
    let error = lambda.error(json!(0)).await;
    assert!(
        error["errorMessage"]
            .as_str()
            .is_some_and(|m| m.ends_with("exit status 4")),
        "{error}"
    );
    let failed = lambda.pool.warm().await;
    assert_eq!(failed, Ok(()), "nothing is to be kept");
    let error = lambda.http_error(http::Request::get("/")).await;
    assert_eq!(
        error.context.as_deref(),
        Some("Runtime exited with error: exit status 4\nno database")
    );
}

fn event_of(kind: &str) -> model::Event {
    let event =
        json!({"specversion": "1.0", "id": "e-1", "source": "/s", "type": kind, "data": {}});
    model::Event::from_json(event).expect("is an event")
}

#[tokio::test]
async fn a_handler_that_needs_more_memory_than_its_limit_is_ended_and_the_caller_told() {
    let lambda = Options::python(PID).start();
    if !crate::limits::held_by_groups(&lambda.pool.limits()) {
        return;
    }
    let ran = lambda.input(Input::Payload("\"eat\"".into())).await;
    let failure = ran.meter.failure().expect("it failed").clone();
    assert_eq!(failure.code, code::INSTANCE_MEMORY);
    assert!(failure.message.contains("128MiB of memory"), "{failure}");
    let object = platform::json(ran.response.expect("an error object")).await;
    assert_eq!(object["errorType"], "Runtime.ExitError");
    eventually("a line says so", || {
        let notes = lambda.notes();
        notes.iter().any(|note| note.contains("want of memory"))
    })
    .await;
    assert!(
        lambda.call(json!(0)).await.is_number(),
        "the next one works"
    );
}

/// Lambda's limit of `/tmp`: an instance that fills its folder is ended, and the next one has an empty one.
#[tokio::test]
async fn a_temporary_folder_has_a_limit_of_size() {
    let clock = model::Clock::virtual_at(model::Time::from_millis(1_767_268_800_000));
    let source = "
import os, time
def handler(event, context):
    if event == 'list': return os.listdir(os.environ['TMPDIR'])
    with open(os.path.join(os.environ['TMPDIR'], event['name']), 'wb') as file:
        file.write(bytes(event['size']))
    print('written', flush=True)
    while event['name'] == 'large': time.sleep(1)
";
    let mut options = Options::python(source).clock(&clock);
    options.limits.scratch = model::ByteSize::mib(1);
    let lambda = options.start();
    lambda.call(json!({"name": "small", "size": 1000})).await;
    clock.advance(Duration::from_secs(6));
    assert_eq!(lambda.call(json!("list")).await, json!(["small"]));
    let filling = lambda.error(json!({"name": "large", "size": 2 << 20}));
    let measured = eventually("it is ended", || {
        let written = lambda
            .lines()
            .iter()
            .filter(|line| line.text == "written")
            .count();
        if written == 2 {
            clock.advance(Duration::from_secs(1));
        }
        lambda
            .notes()
            .iter()
            .any(|note| note == "TMPDIR holds more than 1MiB: killed")
    });
    let (error, ()) = futures_util::future::join(filling, measured).await;
    assert_eq!(error["errorType"], "Runtime.ExitError");
    let message = error["errorMessage"].as_str().unwrap_or_default();
    assert!(
        message.ends_with("the temporary folder holds more than 1MiB"),
        "{error}"
    );
    assert_eq!(lambda.call(json!("list")).await, json!([]));
}
