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
    if *method == Method::HEAD {
        response = without_body(response).await;
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
    Error::new(code::BAD_REPLY, "the workload switched protocols, but the request did not ask for that")
}

fn leave(response: &mut Response<Body>, switching: bool) {
    headers::leave(response.headers_mut(), switching);
    // What the workload's connection spoke says nothing about the client's.
    *response.version_mut() = Version::HTTP_11;
}

/// The answer to HEAD: the length that GET would have had, no body (RFC 9110 §9.3.2). The body is read rather than
/// dropped, because dropping it would count as a client that went away.
async fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let length = body.size_hint().exact().filter(|_| !body.is_end_stream());
    if let Some(length) = length
        && head.status != StatusCode::NO_CONTENT
    {
        head.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    let _ = body.collect(HEAD_BODY).await;
    Response::from_parts(head, Body::Empty)
}
