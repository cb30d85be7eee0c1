//! Uploads of artifacts' files, by their hash, so that what is there is not sent again.

use axum::{
    Json,
    extract::{Request, State},
};
use model::BlobHash;
use platform::{Body, Platform};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Sent},
    fault::bad_request,
};

/// Which files a client has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offer {
    hashes: Vec<BlobHash>,
}

/// Which of them the server wants.
#[derive(Debug, Serialize)]
pub(crate) struct Wanted {
    missing: Vec<BlobHash>,
}

pub(crate) async fn missing(
    State(platform): State<Platform>,
    Sent(offer): Sent<Offer>,
) -> Result<Json<Wanted>, Fault> {
    Ok(Json(Wanted {
        missing: platform.missing_blobs(offer.hashes).await?,
    }))
}

pub(crate) async fn upload(
    State(platform): State<Platform>,
    Path(hash): Path<String>,
    request: Request,
) -> Result<Json<Value>, Fault> {
    let hash: BlobHash = hash
        .parse()
        .map_err(|e| bad_request(format!("`{hash}` is no hash: {e}")))?;
    let body = Body::stream(http_body_util::BodyExt::map_err(request.into_body(), |e| {
        platform::BodyError::Workload(
            model::Error::new(model::code::BAD_REQUEST, "the upload broke off").context(e),
        )
    }));
    platform.upload_blob(hash, body).await?;
    Ok(Json(json!({"hash": hash})))
}
