//! Handlers in Node, under the bootstrap that Tangelo ships.

use serde_json::{Value, json};

use super::platform::Options;

#[tokio::test]
async fn a_handler_gets_its_event_its_context_and_its_environment() {
    let source = "
exports.handler = async (event, context) => {
  const left = context.getRemainingTimeInMillis();
  if (!(left > 0 && left <= 30000)) throw new Error(`left ${left}`);
  if (process.cwd() !== process.env.LAMBDA_TASK_ROOT) throw new Error(process.cwd());
  if (!/^AWS_Lambda_nodejs\\d+\\.x$/.test(process.env.AWS_EXECUTION_ENV)) throw new Error(process.env.AWS_EXECUTION_ENV);
  return {
    event, name: context.functionName, version: context.functionVersion, memory: context.memoryLimitInMB,
    arn: context.invokedFunctionArn, group: context.logGroupName, trace: process.env._X_AMZN_TRACE_ID,
    same: context.logStreamName === process.env.AWS_LAMBDA_LOG_STREAM_NAME, greeting: process.env.GREETING,
    id: context.awsRequestId.length, waits: context.callbackWaitsForEmptyEventLoop,
  };
};";
    let lambda = Options::node("main.js", source).start();
    let got = lambda
        .call(json!({"n": [1, 2.5, null, "ü\u{1f600}"]}))
        .await;
    let expected = json!({
        "event": {"n": [1, 2.5, null, "ü\u{1f600}"]},
        "name": "shop_hello", "version": "$LATEST", "memory": "128",
        "arn": "arn:aws:lambda:us-east-1:000000000000:function:shop_hello", "group": "/aws/lambda/shop_hello",
        "trace": "Root=1-00000000-000000000000000000000abc;Parent=0000000000000def;Sampled=1",
        "same": true, "greeting": "hello", "id": 36, "waits": true,
    });
    assert_eq!(got, expected);
}

#[tokio::test]
async fn handlers_answer_by_promise_and_by_callback() {
    let source = "
const later = (f) => setTimeout(f, 5);
let before = 0;
exports.handler = (event, context, callback) => ({
  callback: () => callback(null, 'by callback'),
  later: () => later(() => callback(undefined, 'later')),
  error: () => callback(new TypeError('no')),
  text: () => callback('a text'),
  done: () => context.done(null, 'done'),
  succeed: () => later(() => context.succeed('succeeded')),
  fail: () => context.fail(new RangeError('failed')),
  nothing: () => {},
  plain: () => 'not a promise',
  thenable: () => ({ then: (yes) => later(() => yes('thenable')) }),
  waits: () => { later(() => { before += 1; }); callback(null, before); },
  waited: () => callback(null, before),
  hurries: () => { context.callbackWaitsForEmptyEventLoop = false; setTimeout(() => {}, 1e8).ref(); callback(null, 'at once'); },
  never: () => new Promise(() => {}),
  undefined: () => Promise.resolve(undefined),
  big: () => Promise.resolve('x'.repeat(1e6)),
  cycle: () => { const a = {}; a.a = a; return Promise.resolve(a); },
  bigint: () => Promise.resolve(1n),
})[event]();";
    let lambda = Options::node("main.js", source).start();
    for (event, expected) in [
        ("callback", json!("by callback")),
        ("later", json!("later")),
        ("done", json!("done")),
        ("succeed", json!("succeeded")),
        ("nothing", Value::Null),
        ("plain", Value::Null),
        ("thenable", json!("thenable")),
        ("waits", json!(0)),
        ("waited", json!(1)),
        ("undefined", Value::Null),
        ("big", json!("x".repeat(1_000_000))),
    ] {
        assert_eq!(lambda.call(json!(event)).await, expected, "{event}");
    }
    for (event, kind, message) in [
        ("error", "TypeError", "no"),
        ("text", "string", "a text"),
        ("fail", "RangeError", "failed"),
        (
            "never",
            "Runtime.NodeJsExit",
            "the handler's promise was never settled, and nothing is left that could settle it",
        ),
        (
            "bigint",
            "Runtime.MarshalError",
            "Unable to stringify response body: Do not know how to serialize a BigInt",
        ),
    ] {
        let error = lambda.error(json!(event)).await;
        assert_eq!(
            (&error["errorType"], &error["errorMessage"]),
            (&json!(kind), &json!(message))
        );
    }
    assert_eq!(
        lambda.error(json!("cycle")).await["errorType"],
        "Runtime.MarshalError"
    );
    assert_eq!(lambda.call(json!("hurries")).await, "at once");
    assert_eq!(lambda.call(json!("undefined")).await, Value::Null);
    assert_eq!(
        lambda.pool.stats().starts,
        1,
        "errors do not end an instance"
    );
}

#[tokio::test]
async fn modules_of_every_kind_are_found() {
    let module = "export const handler = async () => 'module'; export const inner = { run: async () => 'inner' };";
    let common =
        "module.exports = { handler: async () => 'common', inner: { run: async () => 'inner' } };";
    let package = r#"{"type": "module"}"#;
    for (name, options) in [
        ("module", Options::node("main.mjs", module)),
        (
            "module",
            Options::node("main.js", module).file("package.json", package),
        ),
        (
            "common",
            Options::node("main.cjs", common).file("package.json", package),
        ),
        ("common", Options::node("main.js", common)),
        (
            "inner",
            Options::node("main.mjs", module).handler("main.inner.run"),
        ),
        (
            "inner",
            Options::node("deep/er/main.js", common).handler("deep/er/main.inner.run"),
        ),
        (
            "common",
            Options::node("node_modules/pkg/index.js", common).handler("pkg.handler"),
        ),
        (
            "module",
            Options::node(
                "main.mjs",
                "export default { handler: async () => 'module' }",
            ),
        ),
    ] {
        let lambda = options.start();
        assert_eq!(lambda.call(json!({})).await, name);
    }
}

#[tokio::test]
async fn handlers_that_cannot_be_loaded_say_why() {
    for (file, source, handler, kind, message) in [
        (
            "main.js",
            "require('nothing-of-this-name')",
            "main.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'nothing-of-this-name'",
        ),
        (
            "main.mjs",
            "import 'nothing-of-this-name'",
            "main.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find package 'nothing-of-this-name'",
        ),
        (
            "main.js",
            "exports.other = 1",
            "main.handler",
            "Runtime.HandlerNotFound",
            "main.handler is undefined or not exported",
        ),
        (
            "main.js",
            "exports.handler = 1",
            "main.handler",
            "Runtime.HandlerNotFound",
            "main.handler is not a function",
        ),
        (
            "main.js",
            "",
            "absent.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'absent'",
        ),
        (
            "main.js",
            "",
            "main",
            "Runtime.MalformedHandlerName",
            "Bad handler 'main': expected `file.function`",
        ),
        (
            "main.js",
            "exports.handler = (",
            "main.handler",
            "Runtime.UserCodeSyntaxError",
            "SyntaxError: Unexpected end of input",
        ),
        (
            "main.mjs",
            "export const handler = (",
            "main.handler",
            "Runtime.UserCodeSyntaxError",
            "SyntaxError: Unexpected end of input",
        ),
        (
            "main.js",
            "throw new RangeError('not today')",
            "main.handler",
            "RangeError",
            "not today",
        ),
        (
            "main.mjs",
            "await Promise.reject(new RangeError('not today'))",
            "main.handler",
            "RangeError",
            "not today",
        ),
    ] {
        let lambda = Options::node(file, source).handler(handler).start();
        let error = lambda.error(json!({})).await;
        assert_eq!(error["errorType"], kind, "{source}");
        let got = error["errorMessage"].as_str().expect("a text");
        assert!(got.starts_with(message), "{source}: {got}");
        lambda.until_instances(0).await;
    }
}

#[tokio::test]
async fn errors_that_nobody_catches_are_reported_and_end_the_instance() {
    let source = "
exports.handler = (event, context, callback) => {
  if (event === 'thrown') setTimeout(() => { throw new RangeError('loose'); }, 1);
  else if (event === 'rejected') Promise.reject(new RangeError('loose'));
  else if (event === 'exit') process.exit(3);
  else if (event === 'sync') throw new RangeError('direct');
  else callback(null, process.pid);
};";
    let lambda = Options::node("main.js", source).start();
    let first = lambda.call(json!("pid")).await;
    let error = lambda.error(json!("sync")).await;
    assert_eq!(
        (&error["errorType"], &error["errorMessage"]),
        (&json!("RangeError"), &json!("direct"))
    );
    assert!(
        error["trace"][0] == "RangeError: direct"
            && error["trace"].as_array().is_some_and(|t| t.len() > 1),
        "{error}"
    );
    assert_eq!(lambda.call(json!("pid")).await, first);
    for (event, kind, message) in [
        ("thrown", "RangeError", "loose"),
        (
            "rejected",
            "Runtime.UnhandledPromiseRejection",
            "RangeError: loose",
        ),
    ] {
        let error = lambda.error(json!(event)).await;
        assert_eq!(
            (&error["errorType"], &error["errorMessage"]),
            (&json!(kind), &json!(message))
        );
    }
    let error = lambda.error(json!("exit")).await;
    assert_eq!(error["errorType"], "Runtime.ExitError");
    let message = error["errorMessage"].as_str().expect("a text");
    assert!(
        message.starts_with("RequestId: ")
            && message.ends_with(" Error: Runtime exited with error: exit status 3"),
        "{message}"
    );
    assert_ne!(lambda.call(json!("pid")).await, first);
    assert_eq!(lambda.pool.stats().starts, 4);
}

#[tokio::test]
async fn consoles_write_to_both_streams() {
    let source = "exports.handler = async () => { console.log('out %d', 1); console.error('err'); process.stdout.write('raw'); };";
    let lambda = Options::node("main.js", source).start();
    lambda.call(json!({})).await;
    crate::support::eventually("three lines", || lambda.lines().len() == 3).await;
    let mut lines: Vec<_> = lambda
        .lines()
        .into_iter()
        .map(|l| (l.stream, l.text, l.invocation.is_some()))
        .collect();
    lines.sort_by_key(|(_, text, _)| text.clone());
    let (out, err) = (runtime::LogStream::Stdout, runtime::LogStream::Stderr);
    let expected = [
        (err, "err".to_owned(), true),
        (out, "out 1".to_owned(), true),
        (out, "raw".to_owned(), true),
    ];
    assert_eq!(lines, expected);
}
