//! Replies that are streamed: what the Runtime API does with them, and the shipped bootstraps'.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use model::code;
use runtime::{Body, BodyError};
use serde_json::json;

use super::{
    platform::{self, Lambda, Options},
    protocol::scripted,
};
use crate::support::eventually;

/// A `bootstrap` that streams what its event's path says, chunk by chunk over a socket of its own.
const RAW: &str = r#"
import base64, select, time
TYPE = 'application/vnd.awslambda.http-integration-response'
def begin(id, kind=TYPE):
    stream = socket.create_connection(address.split(':'))
    stream.sendall(f'POST {API}/invocation/{id}/response HTTP/1.1\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n'
                   f'Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n'.encode())
    return stream
def chunk(stream, data): stream.sendall(b'%x\r\n%s\r\n' % (len(data), data))
def end(stream, trailers=''):
    stream.sendall(f'0\r\n{trailers}\r\n'.encode())
    return stream.recv(65536).split(b'\r\n')[0].decode()
def wait(name):
    while not os.path.exists(os.path.join(os.environ['TMPDIR'], name)): time.sleep(0.005)
while True:
    status, headers, body = call('GET', '/invocation/next')
    id = headers['Lambda-Runtime-Aws-Request-Id']
    event = json.loads(body)
    kind = event['rawPath'][1:] if isinstance(event, dict) else event
    if kind == 'slowly':
        stream = begin(id)
        for piece in b'{"statusCode":418,"head', b'ers":{"X-A":1},"cookies":["a=1","b=2"]}\0\0\0\0\0', b'\0\0\0first':
            chunk(stream, piece)
        wait('go')
        chunk(stream, b' second')
        print(end(stream), flush=True)
    elif kind == 'plain':
        stream = begin(id, 'text/event-stream')
        chunk(stream, b'data: 1\n\n')
        end(stream)
    elif kind in ('late', 'at-once'):
        stream = begin(id, 'text/plain')
        if kind == 'late': chunk(stream, b'some')
        error = base64.b64encode(json.dumps({'errorType': 'Late.Error', 'errorMessage': 'gave up'}).encode()).decode()
        end(stream, f'Lambda-Runtime-Function-Error-Type: Late.Error\r\nLambda-Runtime-Function-Error-Body: {error}\r\n')
    elif kind == 'dies':
        chunk(begin(id, 'text/plain'), b'some')
        wait('go')
        os._exit(3)
    elif kind == 'no-prelude':
        stream = begin(id)
        chunk(stream, b'x' * 200000)
        print(end(stream), flush=True)
    elif kind == 'bad-prelude':
        stream = begin(id)
        chunk(stream, b'{"statusCode":200,"headers":{"a":"b\\r\\nc: d"}}' + bytes(8))
        end(stream)
    elif kind == 'twice':
        stream = begin(id, 'text/plain')
        chunk(stream, b'once')
        wait('go')
        print(call('POST', f'/invocation/{id}/response', b'1')[0], call('POST', f'/invocation/{id}/error', b'1')[0], flush=True)
        end(stream)
    elif kind in ('flood', 'stall'):
        stream = begin(id, 'application/octet-stream')
        stream.setblocking(False)
        total, sent, piece = 64 << 20, 0, b'%x\r\n%s\r\n' % (1 << 20, bytes(1 << 20))
        wire, full = memoryview(piece * (total >> 20) + b'0\r\n\r\n'), False
        while wire:
            try: wire = wire[stream.send(wire):]
            except BlockingIOError:
                if select.select([], [stream], [], None if full else 1)[1]: continue
                full = True
                print('full at', (total - len(wire)) >> 20, flush=True)
        stream.setblocking(True)
        print(stream.recv(65536).split(b'\r\n')[0].decode(), flush=True)
    elif kind == 'large':
        stream = begin(id, 'application/octet-stream')
        for _ in range(9): chunk(stream, bytes(1 << 20))
        print(end(stream), flush=True)
"#;

async fn ask(lambda: &Lambda, path: &str) -> Response<Body> {
    lambda.http(Request::get(path), "").await
}

/// The next piece of a body.
async fn piece(body: &mut Body) -> Result<Bytes, BodyError> {
    let frame = body.frame().await.expect("there is more");
    Ok(frame?.into_data().expect("is data"))
}

/// The file in each instance's temporary folder that handlers wait for.
fn signals(lambda: &Lambda) -> impl Iterator<Item = PathBuf> {
    let folders = lambda.folders().into_iter();
    folders.map(|folder| folder.join("go"))
}

fn go(lambda: &Lambda) {
    for signal in signals(lambda) {
        std::fs::write(signal, "").expect("can be written");
    }
}

async fn line(lambda: &Lambda, text: &str) {
    let written = || {
        lambda
            .lines()
            .iter()
            .any(|line| line.text.starts_with(text))
    };
    eventually(text, written).await;
}

#[tokio::test]
async fn head_and_pieces_arrive_while_the_rest_is_made() {
    let lambda = scripted(RAW).start();
    let response = ask(&lambda, "/slowly").await;
    assert_eq!(response.status(), 418);
    assert_eq!(response.headers()["x-a"], "1");
    assert_eq!(
        response.headers()["content-type"],
        "application/octet-stream"
    );
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    let mut body = response.into_body();
    assert_eq!(piece(&mut body).await.expect("a piece"), "first");
    go(&lambda);
    let rest = body.collect(model::ByteSize::mib(1)).await;
    assert_eq!(rest.expect("is whole"), " second");
    line(&lambda, "HTTP/1.1 202 Accepted").await;

    let plain = ask(&lambda, "/plain").await;
    assert_eq!(plain.status(), 200);
    assert_eq!(plain.headers()["content-type"], "text/event-stream");
    assert_eq!(platform::bytes(plain).await, "data: 1\n\n");
    assert_eq!(lambda.pool.stats().starts, 1);
}

#[tokio::test]
async fn a_failure_is_an_error_before_the_first_byte_and_a_broken_body_after_it() {
    let lambda = scripted(RAW).start();
    let error = lambda.http_error(Request::get("/at-once")).await;
    assert_eq!(error.code, code::FUNCTION_ERROR);
    assert_eq!(error.context.as_deref(), Some("Late.Error: gave up"));

    let mut body = ask(&lambda, "/late").await.into_body();
    assert_eq!(piece(&mut body).await.expect("a piece"), "some");
    let Err(BodyError::Workload(error)) = piece(&mut body).await else {
        panic!("the handler failed");
    };
    assert_eq!(error.context.as_deref(), Some("Late.Error: gave up"));

    for (path, wrong) in [
        ("/no-prelude", "no 8 NUL bytes"),
        ("/bad-prelude", "the header `a`"),
    ] {
        let error = lambda.http_error(Request::get(path)).await;
        assert_eq!(error.code, code::BAD_REPLY);
        assert!(error.message.contains(wrong), "{error}");
    }
    // What nobody reads is read to its end, so that the handler gets there.
    line(&lambda, "HTTP/1.1 202 Accepted").await;

    let mut body = ask(&lambda, "/dies").await.into_body();
    assert_eq!(piece(&mut body).await.expect("a piece"), "some");
    go(&lambda);
    let Err(BodyError::Workload(error)) = piece(&mut body).await else {
        panic!("the process has ended");
    };
    assert_eq!(error.code, code::INSTANCE_DIED);
    assert!(error.context.is_some_and(|c| c.ends_with("exit status 3")));
}

#[tokio::test]
async fn whoever_asks_with_a_payload_gets_it_whole() {
    let lambda = scripted(RAW).start();
    let ran = lambda
        .input(runtime::Input::Payload("\"plain\"".into()))
        .await;
    let response = ran.response.expect("an answer");
    assert_eq!(platform::bytes(response).await, "data: 1\n\n");
    let error = lambda.error(json!("late")).await;
    assert_eq!(
        error,
        json!({"errorType": "Late.Error", "errorMessage": "gave up"})
    );
    let error = lambda.error(json!("large")).await;
    assert_eq!(error["errorType"], "Function.ResponseSizeTooLarge");
    line(&lambda, "HTTP/1.1 202 Accepted").await;
}

#[tokio::test]
async fn a_handler_is_as_fast_as_its_reader() {
    let lambda = scripted(RAW)
        .change(|w| w.memory = model::ByteSize::mib(512))
        .start();
    let response = ask(&lambda, "/flood").await;
    line(&lambda, "full at").await;
    let full = lambda.lines()[0].text.clone();
    let sent: u32 = full["full at ".len()..].parse().expect("is a number");
    assert!(sent < 32, "of 64 MiB, {sent} were taken though nobody read");
    let body = response.into_body().collect(model::ByteSize::mib(65)).await;
    assert_eq!(body.expect("is whole").len(), 64 << 20);
    line(&lambda, "HTTP/1.1 202 Accepted").await;
}

#[tokio::test]
async fn the_timeout_ends_a_handler_whose_reader_stalls() {
    let lambda = scripted(RAW)
        .change(|w| {
            w.timeout = Duration::from_secs(3);
            w.memory = model::ByteSize::mib(512);
        })
        .start();
    let mut body = ask(&lambda, "/stall").await.into_body();
    line(&lambda, "full at").await;
    lambda.until_instances(0).await;
    assert!(
        lambda
            .notes()
            .iter()
            .any(|note| note == "timed out: killed")
    );
    let error = loop {
        match piece(&mut body).await {
            Ok(_) => {}
            Err(BodyError::Workload(error)) => break error,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(error.code, code::WORKLOAD_TIMEOUT);
}

#[tokio::test]
async fn a_streamed_reply_has_a_limit_and_no_second_answer() {
    let mut options = scripted(RAW);
    options.limits.streamed_payload = model::ByteSize::mib(8);
    let lambda = options.start();
    let body = ask(&lambda, "/large").await.into_body();
    let broken = body.collect(model::ByteSize::mib(64)).await;
    assert!(
        matches!(&broken, Err(BodyError::Workload(error)) if error.code == code::BAD_REPLY),
        "{broken:?}"
    );
    line(&lambda, "HTTP/1.1 413").await;

    let mut body = ask(&lambda, "/twice").await.into_body();
    assert_eq!(piece(&mut body).await.expect("a piece"), "once");
    go(&lambda);
    line(&lambda, "403 403").await;
    assert_eq!(
        body.collect(model::ByteSize::mib(1))
            .await
            .expect("is whole"),
        ""
    );
}

#[tokio::test]
async fn node_handlers_stream() {
    let source = "
const { existsSync } = require('node:fs');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const go = () => new Promise((yes) => { const t = setInterval(() => existsSync(`${process.env.TMPDIR}/go`) && (clearInterval(t), yes()), 5); });
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  const kind = event.rawPath ? event.rawPath.slice(1) : event;
  if (kind === 'from') {
    stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'Content-Type': 'text/html' }, cookies: ['a=1'] });
    stream.write('<p>');
    await go();
    stream.write({ id: context.awsRequestId.length });
    stream.end('</p>');
  }
  if (kind === 'nothing') { awslambda.HttpResponseStream.from(stream, { statusCode: 204 }); stream.end(); }
  if (kind === 'typed') { stream.setContentType('text/csv'); stream.end('a,b\\n'); }
  if (kind === 'pipeline') await pipeline(Readable.from(Array.from({ length: 1000 }, (_, i) => Buffer.alloc(10000, i))), stream);
  if (kind === 'early') throw new RangeError('before');
  if (kind === 'late') { stream.write('some'); throw new RangeError('after'); }
  if (kind === 'destroyed') { stream.write('some'); stream.destroy(new RangeError('broken')); }
  if (kind === 'crash') { stream.write('some'); setTimeout(() => { throw new RangeError('nobody caught'); }, 5); await go(); }
  if (kind === 'forgets') stream.write('some');
  if (kind === 'too-late') { stream.write('x'); try { stream.setContentType('a/b'); } catch (e) { stream.end(e.name); } }
  if (kind === 'after') { stream.end('all'); await new Promise((yes) => setTimeout(yes, 20)); console.log('worked on'); }
}, { highWaterMark: 1000 });";
    let lambda = Options::node("main.js", source).start();
    let response = ask(&lambda, "/from").await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["content-type"], "text/html");
    assert_eq!(response.headers()["set-cookie"], "a=1");
    let mut body = response.into_body();
    assert_eq!(piece(&mut body).await.expect("a piece"), "<p>");
    go(&lambda);
    let rest = body.collect(model::ByteSize::mib(1)).await;
    assert_eq!(rest.expect("is whole"), "{\"id\":36}</p>");
    let nothing = ask(&lambda, "/nothing").await;
    assert_eq!(nothing.status(), 204);
    assert_eq!(platform::bytes(nothing).await, "");
    let typed = ask(&lambda, "/typed").await;
    assert_eq!(typed.headers()["content-type"], "text/csv");
    assert_eq!(platform::bytes(typed).await, "a,b\n");
    let big = platform::bytes(ask(&lambda, "/pipeline").await).await;
    assert_eq!(big.len(), 10_000_000);
    assert!(
        big.chunks(10_000)
            .zip(0_u32..)
            .all(|(piece, i)| piece.iter().all(|b| u32::from(*b) == i % 256))
    );

    for (event, kind, message) in [
        ("early", "RangeError", "before"),
        ("late", "RangeError", "after"),
        ("destroyed", "RangeError", "broken"),
        ("forgets", "Runtime.NodeJsExit", ""),
    ] {
        let error = lambda.error(json!(event)).await;
        assert_eq!(error["errorType"], kind, "{event}: {error}");
        let text = error["errorMessage"].as_str().unwrap_or_default();
        assert!(text.contains(message), "{event}: {error}");
    }
    let error = lambda.http_error(Request::get("/early")).await;
    assert_eq!(error.context.as_deref(), Some("RangeError: before"));
    let late = ask(&lambda, "/too-late").await;
    assert_eq!(
        platform::bytes(late).await,
        "xRuntime.InvalidStreamingOperation"
    );
    assert_eq!(platform::bytes(ask(&lambda, "/after").await).await, "all");
    line(&lambda, "worked on").await;
    assert_eq!(lambda.pool.stats().starts, 1);
    for signal in signals(&lambda) {
        std::fs::remove_file(signal).expect("is there");
    }
    let error = lambda.error(json!("crash")).await;
    assert_eq!(error["errorMessage"], "nobody caught");
}

#[tokio::test]
async fn python_generators_stream() {
    let source = "
import os, time
def handler(event, context):
    kind = event['rawPath'] if isinstance(event, dict) else event
    if kind == '/http': yield {'statusCode': 202, 'headers': {'content-type': 'text/x'}}
    if kind == 'early': raise LookupError('before')
    yield 'fir\\u00fct'
    while kind == '/http' and not os.path.exists(os.path.join(os.environ['TMPDIR'], 'go')): time.sleep(0.005)
    if kind == 'late': raise LookupError('after')
    if kind == 'wrong': yield 7
    yield b' second'
";
    let lambda = Options::python(source).start();
    let response = ask(&lambda, "/http").await;
    assert_eq!(response.status(), 202);
    assert_eq!(response.headers()["content-type"], "text/x");
    let mut body = response.into_body();
    assert_eq!(piece(&mut body).await.expect("a piece"), "fir\u{fc}t");
    go(&lambda);
    let rest = body.collect(model::ByteSize::mib(1)).await;
    assert_eq!(rest.expect("is whole"), " second");
    assert_eq!(
        platform::bytes(ask(&lambda, "/plain").await).await,
        "fir\u{fc}t second"
    );
    for (event, kind, message) in [
        ("early", "LookupError", "before"),
        ("late", "LookupError", "after"),
        (
            "wrong",
            "Runtime.MarshalError",
            "A streamed reply is made of texts and bytes, not of int",
        ),
    ] {
        let error = lambda.error(json!(event)).await;
        assert_eq!(
            (&error["errorType"], &error["errorMessage"]),
            (&json!(kind), &json!(message))
        );
    }
    assert_eq!(lambda.pool.stats().starts, 1);
}
