//! GetFunctionUrlConfig and ListFunctionUrlConfigs: a function's URL is the route that leads to it.
//!
//! They are made and taken away in the manifest, so the operations that do that are refused.

use http::{Response, StatusCode, uri::Uri};
use model::app::{Route, RouteTarget};
use platform::{Body, Platform, dispatch::Callee};
use serde_json::{Value, json};

use super::names;
use crate::{
    fault::{Fault, json_response},
    identity::Identity,
};

/// Where the gateway listens: `http://127.0.0.1:8080`, and with TLS where that is spoken.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// Without TLS.
    pub plain: String,
    /// With TLS.
    pub tls: Option<String>,
}

pub(super) async fn get(
    platform: &Platform,
    identity: &Identity,
    front: &Front,
    name: &str,
) -> Result<Response<Body>, Fault> {
    let callee = names::resolve(platform, identity, name)?;
    let config = config(platform, front, &callee).await?;
    let config = config.ok_or_else(|| {
        let message = format!(
            "The resource you requested does not exist: no route leads to `{}`; one makes its URL",
            callee.target.workload
        );
        Fault::new(404, "ResourceNotFoundException", message)
    })?;
    Ok(json_response(StatusCode::OK, &config))
}

pub(super) async fn list(
    platform: &Platform,
    identity: &Identity,
    front: &Front,
    name: &str,
) -> Result<Response<Body>, Fault> {
    let callee = names::resolve(platform, identity, name)?;
    let configs: Vec<_> = config(platform, front, &callee)
        .await?
        .into_iter()
        .collect();
    let body = json!({"FunctionUrlConfigs": configs});
    Ok(json_response(StatusCode::OK, &body))
}

/// As AWS describes a URL; `None` when no route leads to the function.
async fn config(
    platform: &Platform,
    front: &Front,
    callee: &Callee,
) -> Result<Option<Value>, Fault> {
    let live = platform.apps().live();
    let app = live.apps.iter().find(|app| app.name == callee.target.app);
    let Some(app) = app else { return Ok(None) };
    let to = RouteTarget::Workload(callee.target.workload.clone());
    let routes = app.app.routes.iter().filter(|route| route.to == to);
    let Some(url) = url(routes, front) else {
        return Ok(None);
    };
    let revisions = platform.deployer().revisions(&app.name).await;
    let revisions = revisions.map_err(|e| Fault::new(500, "ServiceException", e.message))?;
    let at = |number| {
        revisions
            .iter()
            .find(|r| r.revision == number)
            .map(|r| r.at)
    };
    let modified = at(app.revision).unwrap_or_else(|| platform.clock().now());
    let created = revisions.iter().map(|r| r.at).min().unwrap_or(modified);
    Ok(Some(json!({
        "FunctionUrl": url,
        "FunctionArn": names::arn(callee),
        "AuthType": "NONE",
        "InvokeMode": "RESPONSE_STREAM",
        "CreationTime": created.rfc3339(),
        "LastModifiedTime": modified.rfc3339(),
    })))
}

/// The address of the route that is most like a function's URL: all paths of a host of its own, then all paths of any
/// host, then the shortest. A route with parameters or for all hosts of a domain has no address of its own.
fn url<'a>(routes: impl Iterator<Item = &'a Route>, front: &Front) -> Option<String> {
    let has_address = |route: &&Route| {
        let any_host = route
            .host
            .as_ref()
            .is_some_and(|host| host.starts_with('*'));
        !any_host && !route.path.contains('{')
    };
    let rank = |route: &&Route| (route.path != "/*", route.host.is_none(), route.path.len());
    let route = routes.filter(has_address).min_by_key(rank)?;
    let base = front.tls.as_ref().unwrap_or(&front.plain);
    let base: Uri = base.parse().ok()?;
    let (scheme, port) = (base.scheme_str()?, base.port_u16()?);
    let host = match (&route.host, base.host()?) {
        (Some(host), _) => host,
        (None, "0.0.0.0" | "[::]") => "localhost",
        (None, own) => own,
    };
    let usual = matches!((scheme, port), ("http", 80) | ("https", 443));
    let port = if usual {
        String::new()
    } else {
        format!(":{port}")
    };
    let path = route.path.trim_end_matches('*');
    Some(format!("{scheme}://{host}{port}{path}"))
}
