//! The Runtime API from a client of our own making: what it says to clients that do as they should, and to others.

use bytes::Bytes;
use runtime::Input;
use serde_json::json;

use super::platform::{self, Options};
use crate::support::eventually;

/// A `bootstrap` in Python that hands the raw API to the test's script.
pub(crate) fn scripted(script: &str) -> Options {
    let python = r#"#!/usr/bin/env python3
import http.client, json, os, socket, sys
address = os.environ['AWS_LAMBDA_RUNTIME_API']
API = '/2018-06-01/runtime'
def call(method, path, body=None, headers={}, connection=None):
    connection = connection or http.client.HTTPConnection(address)
    connection.request(method, API + path, body, headers, encode_chunked='Transfer-Encoding' in headers)
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()
def raw(data):
    stream = socket.create_connection(address.split(':'))
    stream.sendall(data)
    stream.settimeout(10)
    received = b''
    while True:
        piece = stream.recv(65536)
        if not piece: return received.decode()
        received += piece
"#;
    Options::provided(&format!("{python}\n{script}"))
}

/// Who finds the port finds no work: it would be somebody's request.
#[tokio::test]
async fn the_api_answers_nobody_but_the_instance() {
    let lambda = scripted(
        r#"
print(address, flush=True)
status, headers, body = call('GET', '/invocation/next')
id = headers['Lambda-Runtime-Aws-Request-Id']
call('POST', f'/invocation/{id}/response', json.dumps('mine'))
call('GET', '/invocation/next')
"#,
    )
    .start();
    assert_eq!(lambda.call(json!({})).await, "mine");
    eventually("its address", || !lambda.lines().is_empty()).await;
    let address = lambda.lines()[0].text.clone();
    let stolen = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).expect("connects");
        let next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: x\r\n\r\n";
        let _ = stream.write_all(next.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    });
    assert_eq!(stolen.await.expect("ends"), "");
    let noted = || {
        lambda
            .notes()
            .iter()
            .any(|note| note.contains("got nothing"))
    };
    eventually("a note of it", noted).await;
}

#[tokio::test]
async fn the_api_answers_as_documented() {
    let lambda = scripted(
        r#"
seen = [call('GET', '/invocation/7/response')[0], call('GET', '/nothing')[0], call('POST', '/invocation/next')[0]]
seen.append(call('POST', '/invocation/7/response', b'1')[::2])
status, headers, body = call('GET', '/invocation/next')
id = headers['Lambda-Runtime-Aws-Request-Id']
seen += [status, json.loads(body), headers['Content-Type'], sorted(h for h in headers if h.startswith('Lambda-'))]
seen.append(call('GET', '/invocation/next')[::2])
seen.append(call('POST', '/invocation/wrong/response', b'1')[::2])
seen.append(call('POST', '/init/error', b'{}')[0])
print(json.dumps(seen, default=bytes.decode), flush=True)
print(call('POST', f'/invocation/{id}/response', json.dumps('first'))[::2], flush=True)
print(call('POST', f'/invocation/{id}/response', json.dumps('second'))[::2], flush=True)
call('GET', '/invocation/next')
"#,
    )
    .start();
    assert_eq!(lambda.call(json!({"a": 1})).await, "first");
    eventually("three lines", || lambda.lines().len() == 3).await;
    let lines = lambda.lines();
    let seen: serde_json::Value = serde_json::from_str(&lines[0].text).expect("is JSON");
    let transition = "{\"errorMessage\":\"State transition is not allowed\",\"errorType\":\"InvalidStateTransition\"}\n";
    let wrong = "{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}\n";
    let expected = json!([
        405, 404, 405, [403, transition], 200, {"a": 1}, "application/json",
        ["Lambda-Runtime-Aws-Request-Id", "Lambda-Runtime-Deadline-Ms", "Lambda-Runtime-Invoked-Function-Arn", "Lambda-Runtime-Trace-Id"],
        [403, transition], [400, wrong], 403,
    ]);
    assert_eq!(seen, expected);
    assert_eq!(lines[1].text, "(202, b'{\"status\":\"OK\"}\\n')");
    assert!(lines[2].text.starts_with("(400, "), "{}", lines[2].text);
}

#[tokio::test]
async fn bodies_come_chunked_expected_and_on_connections_of_their_own() {
    let lambda = scripted(
        r#"
while True:
    status, headers, body = call('GET', '/invocation/next')
    id = headers['Lambda-Runtime-Aws-Request-Id']
    path = f'/invocation/{id}/response'
    kind = json.loads(body)
    if kind == 'chunked':
        call('POST', path, iter([b'["chu', b'nked"', b']']), {'Transfer-Encoding': 'chunked'})
    elif kind == 'expect':
        raw(f'POST {API}{path} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]'.encode())
    elif kind == 'late':
        error = 'Lambda-Runtime-Function-Error-Type: Late.Error'
        raw(f'POST {API}{path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\n[\r\n0\r\n{error}\r\n\r\n'.encode())
    elif kind == 'plain error':
        call('POST', f'/invocation/{id}/error', b'it broke', {'Lambda-Runtime-Function-Error-Type': 'My.Error'})
    elif kind == 'huge cause':
        call('POST', f'/invocation/{id}/error', b'{"errorMessage":"m"}', {'Lambda-Runtime-Function-XRay-Error-Cause': 'x' * 1_000_000})
    elif kind == 'garbage':
        got = raw(b'\0\1\2garbage\r\n\r\n') + raw(b'POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n')
        call('POST', path, json.dumps(got.count('400 Bad Request')))
"#,
    )
    .start();
    assert_eq!(lambda.call(json!("chunked")).await, json!(["chunked"]));
    assert_eq!(lambda.call(json!("expect")).await, json!([]));
    assert_eq!(
        lambda.error(json!("late")).await,
        json!({"errorType": "Late.Error", "errorMessage": ""})
    );
    assert_eq!(
        lambda.error(json!("plain error")).await,
        json!({"errorType": "My.Error", "errorMessage": "it broke"})
    );
    assert_eq!(
        lambda.error(json!("huge cause")).await,
        json!({"errorMessage": "m"})
    );
    assert_eq!(lambda.call(json!("garbage")).await, 2);
    assert_eq!(lambda.pool.stats().starts, 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_gets_no_work_until_it_asks_again() {
    let lambda = scripted(
        r#"
stream = socket.create_connection(address.split(':'))
stream.sendall(f'GET {API}/invocation/next HTTP/1.1\r\n\r\n'.encode())
import time
go = os.path.join(os.environ['TMPDIR'], 'go')
while not os.path.exists(go): time.sleep(0.005)
stream.close()
print('hung up', flush=True)
while os.path.exists(go): time.sleep(0.005)
status, headers, body = call('GET', '/invocation/next')
call('POST', f"/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}/response", b'"served"')
call('GET', '/invocation/next')
"#,
    )
    .change(|w| (w.scale.min, w.scale.max) = (1, 1))
    .start();
    lambda.pool.warm().await.expect("it asks for work");
    let own = lambda.folders().remove(0);
    std::fs::write(own.join("go"), "").expect("can be written");
    eventually("it hung up", || !lambda.lines().is_empty()).await;
    let served = lambda.input(Input::Payload(Bytes::from_static(b"{}")));
    let go_on = async { std::fs::remove_file(own.join("go")).expect("is there") };
    let (served, ()) = futures_util::future::join(served, go_on).await;
    assert_eq!(
        platform::json(served.response.expect("an answer")).await,
        "served"
    );
}

#[tokio::test]
async fn a_client_that_never_asks_again_does_not_keep_its_place() {
    let clock = model::Clock::virtual_at(model::Time::from_millis(1_767_268_800_000));
    let lambda = scripted(
        r#"
status, headers, body = call('GET', '/invocation/next')
call('POST', f"/invocation/{headers['Lambda-Runtime-Aws-Request-Id']}/response", str(os.getpid()).encode())
import time
time.sleep(1000)
"#,
    )
    .change(|w| w.scale.max = 1)
    .clock(&clock)
    .start();
    let first = lambda.call(json!({})).await;
    clock.advance(std::time::Duration::from_secs(31));
    let killed = || {
        lambda
            .notes()
            .iter()
            .any(|note| note == "asked for no more work: killed")
    };
    // Those who wait hesitate for 50 ms before they look for what does not answer.
    let hesitates = eventually("it is killed", || {
        clock.advance(std::time::Duration::from_millis(50));
        killed()
    });
    let (second, ()) = futures_util::future::join(lambda.call(json!({})), hesitates).await;
    assert_ne!(first, second);
}
