//! Streams of events, as an operator sees them: `/v1/streams/APP/SUBJECT` is what workloads have at `TANGELO_STREAMS_URL`.

use axum::{
    body::Body,
    extract::{Request, State},
    http::Response,
};
use model::AppName;
use platform::Platform;

use crate::{Fault, ask::Path, fault::bad_request, streamed};

pub(crate) async fn serve(
    State(platform): State<Platform>,
    Path(parts): Path<Vec<(String, String)>>,
    request: Request,
) -> Result<Response<Body>, Fault> {
    let app = parts.first().map_or("", |(_, app)| app);
    let app = AppName::new(app).map_err(|error| bad_request(error.to_string()))?;
    // Undecoded, since a slash of a subject is not one of the path.
    let path = request.uri().path().strip_prefix("/v1/streams/");
    let path = path.and_then(|rest| rest.split_once('/'));
    let path = path.map_or_else(String::new, |(_, rest)| rest.to_owned());
    let trace =
        platform::mesh::from_headers(request.headers()).unwrap_or_else(|| platform.new_trace());
    let request = request.map(streamed);
    let answer = platform
        .streams()
        .serve_operator(&app, trace, &path, request);
    Ok(answer.await?.map(Body::new))
}
