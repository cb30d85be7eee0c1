//! The last steps of an answer, the same at the edge and on the mesh.

use http::{HeaderValue, Method, Response, StatusCode, Version, header::CONTENT_LENGTH};
use http_body::Body as _;
use model::{ByteSize, Error, code};
use platform::Body;

use crate::{answer::Answer, headers};

/// The body of an answer to HEAD is read to here, so that its invocation ends well.
const HEAD_BODY: ByteSize = ByteSize::mib(1);

/// Makes `response` an answer to a request with `method`.
pub(crate) async fn finish(mut response: Response<Body>, method: &Method) -> Response<Answer> {
    leave(&mut response, false);
    correct_length(&mut response, method);
    if *method == Method::HEAD {
        response = Box::pin(without_body(response)).await;
    }
    response.map(Answer::new)
}

/// The head of an answer that switches protocols.
pub(crate) fn switching(mut response: Response<Body>) -> Response<Answer> {
    leave(&mut response, true);
    response.map(|_| Answer::new(Body::Empty))
}

/// What an answer is that switches protocols although nobody asked for it.
pub(crate) fn unasked_switch() -> Error {
    Error::new(
        code::BAD_REPLY,
        "the workload switched protocols, but the request did not ask for that",
    )
}

fn leave(response: &mut Response<Body>, switching: bool) {
    headers::leave(response.headers_mut(), switching);
    // What the workload's connection spoke says nothing about the client's.
    *response.version_mut() = Version::HTTP_11;
}

/// A length that is not the body's would make the client take the rest for another answer, so the body decides.
/// Only where it is not known beforehand is the header believed; then hyper ends the connection if it was wrong.
fn correct_length(response: &mut Response<Body>, method: &Method) {
    let Some(length) = response.body().size_hint().exact() else {
        return;
    };
    let bodiless = *method == Method::HEAD || response.status() == StatusCode::NOT_MODIFIED;
    if bodiless && length == 0 {
        return;
    }
    let headers = response.headers_mut();
    if headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The answer to HEAD: the length that GET would have had, no body (RFC 9110 §9.3.2). The body is read rather than
/// dropped, because dropping it would count as a client that went away.
async fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let length = body.size_hint().exact().filter(|_| !body.is_end_stream());
    if let Some(length) = length
        && head.status != StatusCode::NO_CONTENT
    {
        head.headers
            .entry(CONTENT_LENGTH)
            .or_insert(HeaderValue::from(length));
    }
    let _ = body.collect(HEAD_BODY).await;
    Response::from_parts(head, Body::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn length(
        method: Method,
        status: u16,
        claimed: &'static str,
        body: &'static str,
    ) -> Option<String> {
        let response = Response::builder()
            .status(status)
            .header(CONTENT_LENGTH, claimed);
        let response = response.body(Body::full(body)).expect("is a response");
        let answer = finish(response, &method).await;
        let value = answer.headers().get(CONTENT_LENGTH)?;
        value.to_str().ok().map(str::to_owned)
    }

    #[tokio::test]
    async fn a_length_is_the_bodys() {
        for claimed in ["3", "10", "x", "4"] {
            assert_eq!(
                length(Method::GET, 200, claimed, "body").await.as_deref(),
                Some("4")
            );
        }
        assert_eq!(
            length(Method::GET, 200, "4", "").await.as_deref(),
            Some("0")
        );
        assert_eq!(
            length(Method::HEAD, 200, "9", "").await.as_deref(),
            Some("9")
        );
        assert_eq!(
            length(Method::HEAD, 200, "9", "body").await.as_deref(),
            Some("4")
        );
        assert_eq!(
            length(Method::GET, 304, "9", "").await.as_deref(),
            Some("9")
        );
    }
}
