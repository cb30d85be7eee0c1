//! Requests to others.

use wasip2::http::{
    outgoing_handler,
    types::{
        ErrorCode, Fields, IncomingRequest, IncomingResponse, Method, OutgoingBody,
        OutgoingRequest, ResponseOutparam, Scheme,
    },
};

use crate::{answer, streams, write_all};

/// Fetches an URL and answers with its status and body, or the name of the error.
pub fn fetch(url: &str, out: ResponseOutparam) {
    let text = match send(url, Method::Get, &[]) {
        Ok(response) => read(&response),
        Err(error) => format!("{error:?}"),
    };
    answer(out, &text);
}

/// Passes the body of the request on to an URL.
pub fn post(url: &str, request: &IncomingRequest, out: ResponseOutparam) {
    let text = match send(url, Method::Post, &streams::read_all(request)) {
        Ok(response) => read(&response),
        Err(error) => format!("{error:?}"),
    };
    answer(out, &text);
}

/// Asks `base` to do the same, and answers with what it was told.
pub fn call_itself(base: &str, out: ResponseOutparam) {
    fetch(&format!("{base}/call-itself?{base}"), out);
}

/// Begins so many requests before it waits for the first, and says how many were answered.
pub fn fan_out(out: ResponseOutparam, many: u64) {
    let begin = |at: u64| {
        let request = OutgoingRequest::new(Fields::new());
        request.set_authority(Some("orders.internal")).expect("an authority");
        request.set_path_with_query(Some(&format!("/{at}"))).expect("a path");
        outgoing_handler::handle(request, None).expect("it is begun")
    };
    let pending: Vec<_> = (0..many).map(begin).collect();
    let mut answered = 0;
    for pending in pending {
        pending.subscribe().block();
        let response = pending.get().expect("it is ready").expect("asked once");
        answered += u64::from(response.is_ok_and(|response| response.status() == 200));
    }
    answer(out, &answered.to_string());
}

fn send(url: &str, method: Method, bytes: &[u8]) -> Result<IncomingResponse, ErrorCode> {
    let (scheme, rest) = url.split_once("://").expect("an absolute URL");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&method).expect("a method");
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(&format!("/{path}"))).expect("a path");
    let body = request.body().expect("the first body");
    let pending = outgoing_handler::handle(request, None)?;
    // When the request was refused there is nobody to take the body.
    let _ = write_all(&body, bytes);
    let _ = OutgoingBody::finish(body, None);
    pending.subscribe().block();
    pending.get().expect("it is ready").expect("asked once")
}

fn read(response: &IncomingResponse) -> String {
    let body = response.consume().expect("the first reader");
    let stream = body.stream().expect("the first stream");
    let mut all = Vec::new();
    while let Ok(chunk) = stream.blocking_read(64 << 10) {
        all.extend_from_slice(&chunk);
    }
    format!("{} {}", response.status(), String::from_utf8_lossy(&all))
}
