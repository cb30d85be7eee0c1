//! Passes on the id of the event that it gets to `SINK`, so that its arrival can be timed.

use wstd::http::{Body, Client, Error, Request, Response};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let sink = std::env::var("SINK")?;
    let mut onward = Request::get(sink);
    if let Some(id) = request.headers().get("ce-id") {
        onward = onward.header("ce-id", id);
    }
    Client::new().send(onward.body(Body::empty())?).await?;
    Ok(Response::new(Body::empty()))
}
