//! The Extensions API with real extensions: executables beside the handler, and threads within it.

use runtime::Input;
use serde_json::{Value, json};

use super::platform::{Lambda, Options};
use crate::support::eventually;

/// An extension in Python that hands the raw API to the test's script.
const EXTENSION: &str = r#"#!/usr/bin/env python3
import http.client, json, os, sys
address = os.environ['AWS_LAMBDA_RUNTIME_API']
name = os.path.basename(sys.argv[0])
def call(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(address)
    connection.request(method, '/2020-01-01/extension' + path, body, headers)
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), json.loads(response.read())
def register(*events, name=name):
    return call('POST', '/register', json.dumps({'events': events}), {'Lambda-Extension-Name': name})
def next(id):
    return call('GET', '/event/next', None, {'Lambda-Extension-Identifier': id})
def say(*what): print(name, *(json.dumps(w) if not isinstance(w, str) else w for w in what), flush=True)
"#;

/// One that says what it is told until its end.
const FAITHFUL: &str = r"
status, headers, body = register('INVOKE', 'SHUTDOWN')
id = headers['Lambda-Extension-Identifier']
say('registered', body)
while True:
    status, headers, event = next(id)
    say(event)
    if event['eventType'] == 'SHUTDOWN': break
";

/// A handler that says when it was loaded, and what for.
const HANDLER: &str = r"
import os
print('handler loaded', flush=True)
def handler(event, context):
    return {'id': context.aws_request_id, 'pid': os.getpid(), 'home': os.environ['TMPDIR'], 'event': event}
";

fn with(extension: &'static str, script: &str) -> Options {
    Options::python(HANDLER).file(extension, &format!("{EXTENSION}\n{script}"))
}

/// The texts of what was written, those that begin with `with` alone, without that.
fn said(lambda: &Lambda, with: &str) -> Vec<String> {
    let lines = lambda.lines();
    let texts = lines.iter().filter_map(|line| line.text.strip_prefix(with));
    texts.map(|text| text.trim().to_owned()).collect()
}

fn told(lambda: &Lambda, name: &str) -> Vec<Value> {
    let said = said(lambda, name);
    let read = said
        .iter()
        .filter_map(|text| serde_json::from_str(text).ok());
    read.collect()
}

#[tokio::test]
async fn an_external_extension_is_told_of_invocations_and_of_the_end() {
    let lambda = with("extensions/witness", FAITHFUL)
        .file("extensions/README.md", "no extension")
        .start();
    let first = lambda.call(json!(1)).await;
    let second = lambda.call(json!(2)).await;
    assert_eq!(first["pid"], second["pid"]);
    eventually("both events", || told(&lambda, "witness").len() == 2).await;
    let lines = lambda.lines();
    let order: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    let registered = r#"witness registered {"functionName": "shop_hello", "functionVersion": "$LATEST", "handler": "main.handler"}"#;
    assert_eq!(order[..2], [registered, "handler loaded"]);
    let events = told(&lambda, "witness");
    for (event, answer) in events.iter().zip([&first, &second]) {
        assert_eq!(event["eventType"], "INVOKE");
        assert_eq!(event["requestId"], answer["id"]);
        assert_eq!(
            event["invokedFunctionArn"],
            "arn:aws:lambda:us-east-1:000000000000:function:shop_hello"
        );
        assert_eq!(event["tracing"]["type"], "X-Amzn-Trace-Id");
        let trace = event["tracing"]["value"].as_str();
        assert!(trace.is_some_and(|trace| trace.starts_with("Root=1-")));
        assert!(event["deadlineMs"].as_u64() > Some(1_700_000_000_000));
    }
    let all = eventually("it asks for more", || {
        let stats = lambda.pool.stats().instances;
        stats
            .iter()
            .all(|stat| stat.state == runtime::InstanceState::Idle)
    });
    all.await;
    lambda.pool.drain(std::time::Duration::from_secs(30)).await;
    let events = told(&lambda, "witness");
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(events[2]["eventType"], "SHUTDOWN");
    assert_eq!(events[2]["shutdownReason"], "spindown");
    assert!(events[2]["deadlineMs"].as_u64() > Some(1_700_000_000_000));
    let late = |note: &String| note.contains("did not end in time");
    assert!(!lambda.notes().iter().any(late), "{:?}", lambda.notes());
}

/// The caller has its answer while the extension still works; the next invocation waits for it.
#[tokio::test]
async fn answers_do_not_wait_for_extensions_and_the_next_invocation_does() {
    let slow = r"
import time
id = register('INVOKE')[1]['Lambda-Extension-Identifier']
while True:
    event = next(id)[2]
    say('begins', event['requestId'])
    go = os.path.join(os.environ['TMPDIR'], event['requestId'])
    while not os.path.exists(go): time.sleep(0.005)
    say('ends', event['requestId'])
";
    let lambda = with("extensions/slow", slow)
        .change(|w| w.scale.max = 1)
        .start();
    let first = lambda.call(json!(1)).await;
    let id = first["id"].as_str().expect("a text").to_owned();
    assert!(said(&lambda, "slow ends").is_empty());
    let home = std::path::PathBuf::from(first["home"].as_str().expect("a text"));
    let go = async {
        eventually("it begins", || said(&lambda, "slow begins").len() == 1).await;
        assert_eq!(
            lambda
                .lines()
                .iter()
                .filter(|l| l.text == "handler loaded")
                .count(),
            1
        );
        std::fs::write(home.join(&id), "").expect("can be written");
    };
    let (second, ()) = futures_util::future::join(lambda.call(json!(2)), go).await;
    assert_eq!(second["pid"], first["pid"]);
    assert_eq!(said(&lambda, "slow ends"), std::slice::from_ref(&id));
    let lines = lambda.lines();
    let ended = lines.iter().find(|line| line.text.starts_with("slow ends"));
    let of = ended
        .and_then(|line| line.invocation)
        .map(|id| id.to_string());
    assert_eq!(of, Some(id), "the line is the invocation's");
}

#[tokio::test]
async fn extensions_are_refused_in_the_words_of_aws() {
    let curious = r"
seen = [register('INVOKE', name='')[::2], register('NEVER')[::2], call('POST', '/register', '{', {'Lambda-Extension-Name': name})[0]]
shutdown = register('SHUTDOWN', name='inner')[2]['errorType']
full = [register(name=f'inner-{n}')[0] for n in range(9)]
status, headers, body = register()
full.append(register(name='inner-9')[0])
id = headers['Lambda-Extension-Identifier']
seen.append(register()[2]['errorType'])
seen.append(shutdown)
seen.append(next('0' * 36)[::2])
seen += [next('x')[2]['errorType'], call('GET', '/event/next')[2]['errorType']]
seen.append(call('POST', '/exit/error', '{}', {'Lambda-Extension-Identifier': id})[2]['errorType'])
seen.append([full.count(200), full.count(403)])
connection = http.client.HTTPConnection(address)
connection.request('PUT', '/2022-07-01/telemetry', '{}', {'Lambda-Extension-Identifier': id})
response = connection.getresponse()
seen.append([response.status, json.loads(response.read())['errorType']])
print(json.dumps(seen), flush=True)
environment = ['_HANDLER', 'LAMBDA_TASK_ROOT', 'AWS_LAMBDA_FUNCTION_NAME', 'GREETING', 'AWS_LAMBDA_RUNTIME_API']
print(json.dumps([v for v in environment if v in os.environ]), flush=True)
call('POST', '/init/error', '{}', {'Lambda-Extension-Identifier': id, 'Lambda-Extension-Function-Error-Type': 'Extension.Enough'})
import time
time.sleep(1000)
";
    let lambda = with("extensions/curious", curious).start();
    let error = lambda.error(json!(1)).await;
    assert_eq!(error, json!({}), "what it posted");
    let notes = lambda.notes();
    let note = "the extension `curious` reports an error: Extension.Enough";
    assert!(notes.iter().any(|n| n == note), "{notes:?}");
    // The runtime begins when the first of its names is registered, and may print before or after.
    let mut lines = lambda.lines();
    lines.retain(|line| line.text.starts_with('['));
    let seen: Value = serde_json::from_str(&lines[0].text).expect("is JSON");
    let words =
        |kind: &str, message: &str| json!([403, {"errorType": kind, "errorMessage": message}]);
    let nobody = "0".repeat(36);
    assert_eq!(
        seen,
        json!([
            words("Extension.InvalidExtensionName", "Empty extension name"),
            words("Extension.InvalidEventType", "NEVER: ErrorInvalidEventType"),
            403,
            "Extension.AlreadyRegistered",
            "Extension.InvalidEventType",
            words(
                "Extension.UnknownExtensionIdentifier",
                &format!("Unknown extension {nobody}")
            ),
            "Extension.InvalidExtensionIdentifier",
            "Extension.MissingExtensionIdentifier",
            "Extension.MissingHeader",
            [9, 1],
            [403, "Telemetry.NotSupported"],
        ])
    );
    let environment = r#"["AWS_LAMBDA_FUNCTION_NAME", "GREETING", "AWS_LAMBDA_RUNTIME_API"]"#;
    assert_eq!(lines[1].text, environment);
}

#[tokio::test]
async fn an_extension_that_ends_takes_its_instance_with_it() {
    let brief = r"
id = register('INVOKE')[1]['Lambda-Extension-Identifier']
next(id)
sys.exit(3)
";
    let waits = "import time\ndef handler(event, context): time.sleep(1000)";
    let lambda = Options::python(waits)
        .file("extensions/brief", &format!("{EXTENSION}\n{brief}"))
        .start();
    let crash = json!({
        "errorType": "Extension.Crash",
        "errorMessage": "the extension `brief` ended: exit status 3",
    });
    assert_eq!(lambda.error(json!(1)).await, crash);
    lambda.until_instances(0).await;
    let never = Options::python(HANDLER)
        .file("extensions/never", "#!/bin/sh\nexit 4\n")
        .start();
    let error = never.error(json!(1)).await;
    assert_eq!(error["errorType"], "Extension.Crash");
    assert!(
        said(&never, "handler loaded").is_empty(),
        "it was not begun"
    );
}

#[tokio::test]
async fn a_timeout_is_told_to_extensions_while_the_runtime_stands_still() {
    let busy = r"
import time
def handler(event, context):
    while True:
        print('works', flush=True)
        time.sleep(0.01)
";
    let lambda = Options::python(busy)
        .file("extensions/witness", &format!("{EXTENSION}\n{FAITHFUL}"))
        .change(|w| w.timeout = std::time::Duration::from_millis(500))
        .start();
    let error = lambda.error(json!(1)).await;
    assert_eq!(error["errorType"], "Sandbox.Timedout");
    lambda.until_instances(0).await;
    let events = told(&lambda, "witness");
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[1]["shutdownReason"], "timeout");
}

#[tokio::test]
async fn an_internal_extension_is_told_of_invocations_alone() {
    let inside = r"
import http.client, json, os, threading
address = os.environ['AWS_LAMBDA_RUNTIME_API']
def call(method, path, body, headers):
    connection = http.client.HTTPConnection(address)
    connection.request(method, '/2020-01-01/extension' + path, body, headers)
    response = connection.getresponse()
    return dict(response.getheaders()), json.loads(response.read())
name = {'Lambda-Extension-Name': 'inside'}
refused = call('POST', '/register', json.dumps({'events': ['SHUTDOWN']}), name)[1]
headers, body = call('POST', '/register', json.dumps({'events': ['INVOKE']}), name)
own = {'Lambda-Extension-Identifier': headers['Lambda-Extension-Identifier']}
def follow():
    while True:
        print('inside', call('GET', '/event/next', None, own)[1]['requestId'], flush=True)
threading.Thread(target=follow, daemon=True).start()
def handler(event, context):
    late = call('POST', '/register', '{}', {'Lambda-Extension-Name': 'late'})[1]
    return [refused['errorType'], late['errorType'], context.aws_request_id]
";
    let lambda = Options::python(inside).start();
    let first = lambda.call(json!(1)).await;
    let second = lambda.call(json!(2)).await;
    let refused = ["Extension.InvalidEventType", "Extension.RegistrationClosed"];
    assert_eq!([&first[0], &first[1]], refused);
    eventually("both events", || said(&lambda, "inside").len() == 2).await;
    let ids = [&first[2], &second[2]].map(|id| id.as_str().expect("a text"));
    assert_eq!(said(&lambda, "inside"), ids);
    assert_eq!(lambda.pool.stats().starts, 1);
}

#[tokio::test]
async fn a_runtime_that_ends_by_itself_leaves_its_extensions_their_end() {
    let ends = r"
import os, signal
def handler(event, context):
    if event == 'exit': os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)
";
    let last = r"
import time
id = register('INVOKE', 'SHUTDOWN')[1]['Lambda-Extension-Identifier']
while True:
    event = next(id)[2]
    if event['eventType'] == 'SHUTDOWN': break
say({'reason': event['shutdownReason'], 'left': event['deadlineMs'] / 1000 - time.time()})
";
    for (how, words) in [("exit", "exit status 7"), ("kill", "signal: killed")] {
        let lambda = Options::python(ends)
            .file("extensions/last", &format!("{EXTENSION}\n{last}"))
            .start();
        let error = lambda.error(json!(how)).await;
        assert_eq!(error["errorType"], "Runtime.ExitError", "{error}");
        let message = error["errorMessage"].as_str().expect("a text");
        assert!(message.ends_with(words), "{message}");
        lambda.until_instances(0).await;
        let told = told(&lambda, "last");
        assert_eq!(told.len(), 1, "{how}: {:?}", lambda.lines());
        assert_eq!(told[0]["reason"], "failure");
        let left = told[0]["left"].as_f64().expect("a number");
        assert!(left <= 2.0, "AWS gives two seconds, and not {left}");
        let notes = lambda.notes();
        assert!(
            notes.iter().any(|note| note.starts_with("ended by itself")),
            "{notes:?}"
        );
        assert!(
            !notes
                .iter()
                .any(|note| note.contains("did not end in time")),
            "{notes:?}"
        );
        // What shells say of signals is nobody's output.
        let lines = lambda.lines();
        assert!(
            !lines.iter().any(|line| line.text.contains("Killed")),
            "{lines:?}"
        );
        let again = lambda.error(json!("exit")).await;
        assert_eq!(
            again["errorType"], "Runtime.ExitError",
            "another instance takes its place"
        );
    }
}

#[tokio::test]
async fn what_extensions_take_is_told_apart_in_a_start_and_counted_with_the_instance() {
    let heavy = r"
import time
held = b'x' * (64 << 20)
while time.process_time() < 0.2: pass
id = register('INVOKE')[1]['Lambda-Extension-Identifier']
while True: next(id)
";
    let lambda = with("extensions/heavy", heavy)
        .change(|w| w.memory = model::ByteSize::mib(512))
        .start();
    let ran = lambda.input(Input::Payload("1".into())).await;
    let cold = ran.meter.cold().expect("it was a cold start");
    let least = std::time::Duration::from_millis(200);
    assert!(cold.extensions >= least, "{cold:?}");
    assert!(!cold.init.is_zero(), "{cold:?}");
    assert_eq!(
        cold.total(),
        cold.wait + cold.load + cold.spawn + cold.extensions + cold.init
    );
    let used = lambda.pool.stats().instances.remove(0);
    assert!(used.memory > 64 << 20, "{used:?}");
    assert!(used.cpu_us >= 200_000, "{used:?}");
    let alone = Options::python(HANDLER).start();
    let ran = alone.input(Input::Payload("1".into())).await;
    let cold = ran.meter.cold().expect("it was a cold start");
    assert!(cold.extensions.is_zero(), "{cold:?}");
}
