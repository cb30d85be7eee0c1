//! Projections, as operators and readers ask for them: `tangelo projections`, and `GET /projections/…` on the mesh, which
//! tells a workload which generation of a read model is live.

use bus::Projection;
use http::{Method, Request, Response, StatusCode};
use model::{Error, SubscriptionKey, code};
use runtime::{Body, Caller};
use serde_json::{Value, json};

use crate::{Platform, mesh::Mesh};

impl Platform {
    /// All projections and how far each of their generations is.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn projections(&self) -> Result<Vec<Projection>, Error> {
        Ok(self.bus().projections().await?)
    }

    /// One projection.
    ///
    /// # Errors
    /// `NO_SUCH_PROJECTION`, or what the store fails with.
    pub async fn projection(&self, projection: &str) -> Result<Projection, Error> {
        one(self.bus(), &key(projection)?).await
    }

    /// Begins a new generation beside the live one; its number.
    ///
    /// # Errors
    /// `NO_SUCH_PROJECTION`, `PROJECTION_CONFLICT`, `EVENTS_GONE` unless `partial`, or what the store fails with.
    pub async fn rebuild_projection(
        &self,
        projection: &str,
        partial: bool,
        by: &str,
    ) -> Result<u32, Error> {
        Ok(self.bus().rebuild(&key(projection)?, partial, by).await?)
    }

    /// Makes a generation live, the newest unless one is named; which it is, and whether another one was.
    ///
    /// # Errors
    /// `NO_SUCH_PROJECTION`, or what the store fails with.
    pub async fn switch_projection(
        &self,
        projection: &str,
        number: Option<u32>,
        by: &str,
    ) -> Result<Value, Error> {
        let key = key(projection)?;
        let number = match number {
            Some(number) => number,
            None => {
                let generations = one(self.bus(), &key).await?.generations;
                let newest = generations.last().map(|newest| newest.generation);
                newest.ok_or_else(|| none(&key))?
            }
        };
        let switched = self.bus().switch(&key, number, by).await?;
        Ok(json!({"live": number, "switched": switched}))
    }

    /// Ends the feed of a generation that is not live.
    ///
    /// # Errors
    /// `NO_SUCH_PROJECTION`, `PROJECTION_CONFLICT` when it is live, or what the store fails with.
    pub async fn drop_generation(
        &self,
        projection: &str,
        number: u32,
        by: &str,
    ) -> Result<(), Error> {
        let key = key(projection)?;
        Ok(self.bus().drop_generation(&key, number, by).await?)
    }
}

/// Answers `GET /projections/NAME` (the caller's own) and `/projections/WORKLOAD/NAME` (another one's of its app).
///
/// # Errors
/// `BAD_REQUEST`, `NO_SUCH_PROJECTION`, or what the store fails with.
pub(crate) async fn serve(
    mesh: &Mesh,
    caller: &Caller,
    request: Request<Body>,
) -> Result<Response<Body>, Error> {
    let (head, _) = request.into_parts();
    if head.method != Method::GET {
        let message = format!(
            "projections take GET of /projections/NAME and /projections/WORKLOAD/NAME, not {}",
            head.method
        );
        return Err(Error::new(code::BAD_REQUEST, message));
    }
    let path = head.uri.path();
    let name = path.strip_prefix("/projections/").unwrap_or_default();
    let presence = &caller.presence;
    let text = match name.contains('/') {
        true => format!("{}/{name}", presence.app),
        false => format!("{}/{}/{name}", presence.app, presence.workload),
    };
    let projection = one(&mesh.events.bus, &key(&text)?).await?;
    let shown = serde_json::to_string(&projection).map_err(Error::internal)?;
    let mut response = Response::new(Body::full(shown));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// The projection of this key.
///
/// # Errors
/// `NO_SUCH_PROJECTION`, or what the store fails with.
pub(crate) async fn one(bus: &bus::Bus, key: &SubscriptionKey) -> Result<Projection, Error> {
    let all = bus.projections().await?;
    let found = all.into_iter().find(|one| one.projection == *key);
    found.ok_or_else(|| none(key))
}

fn none(key: &SubscriptionKey) -> Error {
    bus::Error::NoSuchProjection {
        what: "projection",
        key: key.to_string(),
    }
    .into()
}

fn key(text: &str) -> Result<SubscriptionKey, Error> {
    let key: Result<SubscriptionKey, String> = text.parse();
    key.map_err(|_| {
        let message = format!("`{text}` is no projection: expected app/workload/name");
        Error::new(code::NO_SUCH_PROJECTION, message)
    })
}
