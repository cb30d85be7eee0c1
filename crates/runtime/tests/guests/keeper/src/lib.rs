//! A guest that reads its configuration and keeps things under keys. `/INTERFACE/VERB?bucket,key,value…` says what it is
//! to do; it answers with what it was told.

mod first;
mod second;

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
};

wit_bindgen::generate!({ path: "wit", world: "keeper", generate_all });
wasip2::http::proxy::export!(Keeper);

struct Keeper;

impl Guest for Keeper {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let words: Vec<&str> = query.split(',').collect();
        let text = match path.trim_start_matches('/').split_once('/') {
            Some(("config", verb)) => config(verb, &words),
            Some(("first", verb)) => first::run(verb, &words),
            Some(("second", verb)) => second::run(verb, &words),
            _ => format!("no {path}"),
        };
        answer(out, text.as_bytes());
    }
}

fn config(verb: &str, words: &[&str]) -> String {
    use wasi::config::store;
    match verb {
        "get" => format!("{:?}", store::get(words[0]).expect("never fails")),
        _ => format!("{:?}", store::get_all().expect("never fails")),
    }
}

/// A value as a text.
pub fn shown(value: Option<Vec<u8>>) -> String {
    value.map_or("nothing".to_owned(), |v| String::from_utf8_lossy(&v).into_owned())
}

fn answer(out: ResponseOutparam, mut bytes: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the first body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the first stream");
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(bytes.len().min(4096));
        stream.blocking_write_and_flush(now).expect("is read");
        bytes = later;
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was announced");
}
