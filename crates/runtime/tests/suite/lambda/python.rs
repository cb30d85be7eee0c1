//! Handlers in Python, under the bootstrap that Tangelo ships.

use std::time::Duration;

use serde_json::{Value, json};

use super::platform::Options;

#[tokio::test]
async fn a_handler_gets_its_event_its_context_and_its_environment() {
    let source = "
import os
def handler(event, context):
    left = context.get_remaining_time_in_millis()
    assert 0 < left <= 30000, left
    assert context.log_stream_name == os.environ['AWS_LAMBDA_LOG_STREAM_NAME']
    assert os.getcwd() == os.environ['LAMBDA_TASK_ROOT']
    assert os.environ['AWS_EXECUTION_ENV'].startswith('AWS_Lambda_python3.')
    assert os.path.isdir(os.environ['TMPDIR'])
    return {
        'event': event, 'name': context.function_name, 'version': context.function_version,
        'memory': context.memory_limit_in_mb, 'arn': context.invoked_function_arn,
        'group': context.log_group_name, 'identity': context.identity.cognito_identity_id,
        'client': context.client_context, 'trace': os.environ['_X_AMZN_TRACE_ID'],
        'environment': {n: os.environ[n] for n in ('GREETING', 'TZ', 'LANG', 'AWS_REGION', '_HANDLER', 'AWS_ENDPOINT_URL')},
    }
";
    let lambda = Options::python(source).start();
    let got = lambda
        .call(json!({"n": [1, 2.5, null, "ü\u{1f600}"]}))
        .await;
    let expected = json!({
        "event": {"n": [1, 2.5, null, "ü\u{1f600}"]},
        "name": "shop_hello", "version": "$LATEST", "memory": "128",
        "arn": "arn:aws:lambda:us-east-1:000000000000:function:shop_hello",
        "group": "/aws/lambda/shop_hello", "identity": null, "client": null,
        "trace": "Root=1-00000000-000000000000000000000abc;Parent=0000000000000def;Sampled=1",
        "environment": {
            "GREETING": "hello", "TZ": ":UTC", "LANG": "en_US.UTF-8", "AWS_REGION": "us-east-1",
            "_HANDLER": "main.handler", "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        },
    });
    assert_eq!(got, expected);
}

/// It is the scanner and encoder behind `json` that the bootstrap uses, so that a start need not import the rest.
#[tokio::test]
async fn json_is_read_and_written_as_pythons_own_module_does_it() {
    let source = r#"
import decimal, enum, json, tangelo_bootstrap as bootstrap
class Number(enum.IntEnum): ONE = 1
def outcome(function, *values):
    try:
        return repr(function(*values))
    except Exception as error:
        return '%s: %s' % (type(error).__name__, error)
def handler(event, context):
    assert bootstrap.scan, 'this interpreter has no scanner in C'
    texts = [b'{"a": [1, -2.50, 1e400, true, null, "\\u00e9"]}', b' \t\r\n[] \n', b'{"a": 1} x', b'', b'  ', b'nul', b'NaN',
             b'[Infinity, -Infinity]', b'\xef\xbb\xbf{}', '{"a": 1}'.encode('utf-16'), b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"',
             b'"a\nb"', b'{"a": 1, "a": 2}', b'{"a": }', b'[1,]', b'{1: 2}', b'\x0c1', b'123456789012345678901234567890',
             b'-0', b'01', b'[' * 10000, '"\u2028\U0001f600"'.encode()]
    circle = []
    circle.append(circle)
    values = [None, True, 1, -1.5, float('nan'), float('-inf'), 1e22, 10 ** 30, 'text', '\u2028"\\\n\x00', '\ud800', [], {}, (1, [2]),
              {'a': {'b': [None]}}, {1: 2, 1.5: 3, None: 4, True: 5}, {(1,): 2}, {'set': {1}}, {b'a': 1}, circle, Number.ONE,
              {Number.ONE: Number.ONE}, decimal.Decimal('1.5'), [decimal.Decimal('7')], object]
    pairs = [(outcome(bootstrap.loads, t), outcome(json.loads, t)) for t in texts]
    for to_ascii in (False, True):
        theirs = json.JSONEncoder(default=bootstrap.encode, ensure_ascii=to_ascii).encode
        # Each twice: nothing of one value is remembered when the next is written.
        pairs += [(outcome(bootstrap.dumps, v, to_ascii), outcome(theirs, v)) for v in values + values]
    return {'compared': len(pairs), 'differ': [ascii(p) for p in pairs if p[0] != p[1]]}
"#;
    let lambda = Options::python(source).start();
    let got = lambda.call(json!(null)).await;
    assert_eq!(got, json!({"compared": 124, "differ": []}));
}

#[tokio::test]
async fn replies_of_every_shape() {
    let source = "
import decimal
class Odd: pass
def handler(event, context):
    return {
        'none': None, 'text': 'hi', 'list': [1, (2, 3)], 'unicode': '\\u2603',
        'decimal': {'a': decimal.Decimal('1.5'), 'b': decimal.Decimal('7')},
        'big': 'x' * 1_000_000, 'bytes': b'{\"raw\": true}', 'set': {1}, 'odd': Odd(),
    }[event]
";
    let lambda = Options::python(source).start();
    for (event, expected) in [
        ("none", Value::Null),
        ("text", json!("hi")),
        ("list", json!([1, [2, 3]])),
        ("unicode", json!("\u{2603}")),
        ("decimal", json!({"a": 1.5, "b": 7})),
        ("big", json!("x".repeat(1_000_000))),
        ("bytes", json!({"raw": true})),
    ] {
        assert_eq!(lambda.call(json!(event)).await, expected);
    }
    for event in ["set", "odd"] {
        let error = lambda.error(json!(event)).await;
        assert_eq!(error["errorType"], "Runtime.MarshalError");
    }
    assert_eq!(
        lambda.pool.stats().starts,
        1,
        "errors do not end an instance"
    );
}

#[tokio::test]
async fn errors_name_their_type_and_the_handlers_own_frames() {
    let source = "
class NoSuchOrder(Exception): pass
def find(event):
    raise NoSuchOrder('no order ' + event['id'])
def handler(event, context):
    find(event)
";
    let lambda = Options::python(source).start();
    let error = lambda.error(json!({"id": "o-7"})).await;
    assert_eq!(
        (&error["errorType"], &error["errorMessage"]),
        (&json!("NoSuchOrder"), &json!("no order o-7"))
    );
    let trace: Vec<&str> = error["stackTrace"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(trace.len(), 2, "{trace:?}");
    assert!(
        trace[0].contains("main.py\", line 6, in handler\n    find(event)"),
        "{trace:?}"
    );
    let logged = &lambda.lines()[0].text;
    assert!(
        logged
            .starts_with("[ERROR] NoSuchOrder: no order o-7\nTraceback (most recent call last):\n"),
        "{logged}"
    );
}

#[tokio::test]
async fn handlers_that_cannot_be_loaded_say_why() {
    for (source, handler, kind, message) in [
        (
            "import nothing_of_this_name",
            "main.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'main': No module named 'nothing_of_this_name'",
        ),
        (
            "x = 1",
            "main.handler",
            "Runtime.HandlerNotFound",
            "Handler 'handler' missing on module 'main'",
        ),
        (
            "x = 1",
            "absent.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'absent': No module named 'absent'",
        ),
        (
            "x = 1",
            "main",
            "Runtime.MalformedHandlerName",
            "Bad handler 'main': expected `module.function`",
        ),
        (
            "def handler(:",
            "main.handler",
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'main': invalid syntax (main.py, line 1)",
        ),
        (
            "raise ValueError('not today')",
            "main.handler",
            "ValueError",
            "not today",
        ),
    ] {
        let lambda = Options::python(source).handler(handler).start();
        let error = lambda.error(json!({})).await;
        assert_eq!(
            (&error["errorType"], &error["errorMessage"]),
            (&json!(kind), &json!(message))
        );
        let error = lambda.http_error(http::Request::get("/")).await;
        assert_eq!(error.code, model::code::START_FAILED);
        assert_eq!(error.context, Some(format!("{kind}: {message}")));
        assert_eq!(lambda.pool.stats().failures, 2);
        lambda.until_instances(0).await;
    }
}

#[tokio::test]
async fn modules_in_folders_and_packages_are_found() {
    let lambda = Options::python("")
        .file(
            "pkg/inner/mod.py",
            "from helper import name\ndef run(e, c): return name",
        )
        .file("helper.py", "name = 'helped'")
        .handler("pkg/inner/mod.run")
        .start();
    assert_eq!(lambda.call(json!({})).await, "helped");
}

#[tokio::test]
async fn lines_belong_to_the_invocation_that_wrote_them() {
    let source = "
import logging, sys
logging.getLogger().setLevel('INFO')
print('starting')
def handler(event, context):
    print('one', event)
    print('two', event, file=sys.stderr)
    logging.info('three %s', event)
    sys.stdout.write('four %d' % event)
    return 0
";
    let lambda = Options::python(source).start();
    let mut ids = Vec::new();
    for n in 0..20 {
        let invocation = lambda.invocation(Duration::from_secs(30));
        ids.push(invocation.id);
        let input = runtime::Input::Payload(n.to_string().into());
        let ran = lambda.pool.invoke(invocation.into(), input).await;
        let response = ran.response.expect("an answer");
        let tail = super::platform::tail(&response);
        assert!(
            tail.starts_with(&format!("START RequestId: {}", ids[n]))
                && tail.contains(&format!("one {n}\n")),
            "{tail}"
        );
    }
    crate::support::eventually("all lines", || lambda.lines().len() == 81).await;
    let lines = lambda.lines();
    assert_eq!(
        (lines[0].text.as_str(), lines[0].invocation),
        ("starting", None)
    );
    for line in &lines[1..] {
        let n: usize = line
            .text
            .rsplit(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect("ends with a number");
        assert_eq!(line.invocation, Some(ids[n]), "{line:?}");
        assert!(line.trace.is_some());
    }
    let logged = &lines
        .iter()
        .find(|l| l.text.contains("three 7"))
        .expect("is there")
        .text;
    assert!(
        logged.starts_with("[INFO]\t20") && logged.contains(&ids[7].to_string()),
        "{logged}"
    );
}
