//! Direct invocations by an operator.

use axum::{body::Body, extract::State, http::Response};
use model::InvocationId;
use platform::{Platform, direct::Ask};

use crate::{
    Fault,
    ask::{Path, Sent},
    fault::bad_request,
};

/// Invokes and streams the workload's answer back as it is; `x-tangelo-outcome` and `x-tangelo-trace` say the rest.
pub(crate) async fn invoke(
    State(platform): State<Platform>,
    Sent(ask): Sent<Ask>,
) -> Result<Response<Body>, Fault> {
    Ok(platform.direct(ask).await?.map(Body::new))
}

pub(crate) async fn status(
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<Response<Body>, Fault> {
    let id: InvocationId = id
        .parse()
        .map_err(|_| bad_request(format!("`{id}` is no invocation id")))?;
    Ok(platform.calls().status(id).await?.map(Body::new))
}
