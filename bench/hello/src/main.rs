//! Answers every request with a short text, set when it is built, so that a new build can be told from the old.

use wstd::http::{Body, Error, Request, Response};

const TEXT: &str = match option_env!("HELLO") {
    Some(text) => text,
    None => "hello",
};

#[wstd::http_server]
async fn main(_request: Request<Body>) -> Result<Response<Body>, Error> {
    Ok(Response::new(Body::from(TEXT)))
}
