//! `/_tangelo/health` at the gateway: whether apps are well, for load balancers and people without the operator's token.
//!
//! `/_tangelo/health` says it of every app, `/_tangelo/health/APP` of one with its workloads; 503 when something is not.

use std::{pin::Pin, sync::Arc};

use gateway::Door;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use model::{Error, code};
use platform::{Body, Caller, Platform, problem, ps};
use serde_json::{Value, json};

/// Where it is served.
pub(crate) const PATH: &str = "/_tangelo/health";

/// The door.
pub(crate) struct HealthDoor(Platform);

impl HealthDoor {
    pub(crate) fn new(platform: Platform) -> Arc<Self> {
        Arc::new(Self(platform))
    }

    fn answer(&self, method: &Method, path: &str) -> Result<Response<Body>, Error> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let message = "health is read with GET";
            return Err(Error::new(code::METHOD_NOT_ALLOWED, message));
        }
        let (healthy, document) = match path.strip_prefix(PATH).unwrap_or_default() {
            "" | "/" => self.all(),
            app => self.one(app.trim_start_matches('/'))?,
        };
        let mut response = Response::new(Body::full(document.to_string()));
        if !healthy {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let no_store = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, no_store);
        Ok(response)
    }

    /// Names no workload: whoever knows no app's name learns nothing of how it is built.
    fn all(&self) -> (bool, Value) {
        let live = self.0.apps().live();
        let apps: Vec<_> = live.apps.iter().map(|app| ps::health(app)).collect();
        let healthy = apps.iter().all(|app| app.healthy);
        let apps: Vec<Value> = apps
            .iter()
            .map(|app| json!({"app": app.app, "healthy": app.healthy}))
            .collect();
        (healthy, json!({"healthy": healthy, "apps": apps}))
    }

    fn one(&self, app: &str) -> Result<(bool, Value), Error> {
        let health = ps::health(&*self.0.apps().find(app)?);
        let document = serde_json::to_value(&health).map_err(Error::internal)?;
        Ok((health.healthy, document))
    }
}

impl Door for HealthDoor {
    fn serve(
        &self,
        _caller: Option<Caller>,
        request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        let answer = self
            .answer(request.method(), request.uri().path())
            .unwrap_or_else(|error| problem::response(&error, None));
        Box::pin(std::future::ready(answer))
    }
}
