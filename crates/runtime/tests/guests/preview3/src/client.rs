//! Requests to others.

use std::{cell::Cell, rc::Rc};

use wasip3::{
    clocks::monotonic_clock,
    http::{
        client,
        types::{Method, Request, Response, Scheme},
    },
    wit_bindgen::{StreamReader, spawn_local},
    wit_future,
};

use crate::{
    bodies::{drain, text},
    headers,
};

/// Fetches an URL and answers with its status and body, or the name of the error.
pub async fn fetch(url: &str) -> Response {
    text(&send(url, &Method::Get, None).await)
}

/// Passes the body of the request on to an URL while it comes in.
pub async fn post(url: &str, request: Request) -> Response {
    let (_done, result) = wit_future::new(|| Ok(()));
    let (contents, _trailers) = Request::consume_body(request, result);
    text(&send(url, &Method::Post, Some(contents)).await)
}

/// Begins so many requests at once, and says how many were answered.
pub async fn fan_out(many: u64) -> Response {
    let left = Rc::new(Cell::new(many));
    let answered = Rc::new(Cell::new(0));
    for at in 0..many {
        let (left, answered) = (Rc::clone(&left), Rc::clone(&answered));
        spawn_local(async move {
            let said = send(&format!("http://orders.internal/{at}"), &Method::Get, None).await;
            answered.set(answered.get() + u64::from(said.starts_with("200")));
            left.set(left.get() - 1);
        });
    }
    while left.get() > 0 {
        monotonic_clock::wait_for(1_000_000).await;
    }
    text(&answered.get().to_string())
}

async fn send(url: &str, method: &Method, contents: Option<StreamReader<u8>>) -> String {
    let (scheme, rest) = url.split_once("://").expect("an absolute URL");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (trailers, no_trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(headers(), contents, no_trailers, None);
    // Nobody can have all of the request before its trailers are there.
    drop(trailers);
    request.set_method(method).expect("a method");
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(&format!("/{path}"))).expect("a path");
    match client::send(request).await {
        Ok(response) => read(response).await,
        Err(error) => format!("{error:?}"),
    }
}

async fn read(response: Response) -> String {
    let status = response.get_status_code();
    let (_done, result) = wit_future::new(|| Ok(()));
    let (contents, _trailers) = Response::consume_body(response, result);
    let all = drain(contents).await;
    format!("{status} {}", String::from_utf8_lossy(&all))
}
