//! Runs before the routes of orders: verifies the bearer token and says who it is, or answers 401 itself.
//!
//! As a `before:` workload it gets the head of the request. An answer of 2xx means "go on", and its `x-` headers go
//! to the service; any other answer is the client's answer.

use std::{env, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::VerifyingKey;
use token::{Claims, Keys, Refused, verify};
use wstd::http::{Body, Error, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    match bearer(&request) {
        None => refuse("this needs a token: Authorization: Bearer …", ""),
        Some(token) => match verify(token, &keys(), "shop", now()) {
            Ok(claims) => go_on(&claims),
            Err(refused) => refuse(refused.reason(), challenge(refused)),
        },
    }
}

fn bearer(request: &Request<Body>) -> Option<&str> {
    let value = request.headers().get("authorization")?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn keys() -> Keys {
    let public = env::var("AUTH_PUBLIC_KEY").ok().and_then(|text| {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok()
    });
    // An empty secret would be one that everybody knows.
    let secret = env::var("AUTH_SECRET").ok().filter(|s| !s.is_empty());
    Keys {
        secret: secret.map(String::into_bytes),
        public,
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn go_on(claims: &Claims) -> Result<Response<Body>, Error> {
    let response = Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header("x-tangelo-principal", &claims.sub)
        .header("x-shop-roles", claims.roles.join(","))
        .body(Body::empty())?;
    Ok(response)
}

/// RFC 6750, section 3: a token that is there but wrong is named as such.
fn challenge(refused: Refused) -> &'static str {
    match refused {
        Refused::Malformed => ", error=\"invalid_request\"",
        _ => ", error=\"invalid_token\"",
    }
}

fn refuse(detail: &str, challenge: &str) -> Result<Response<Body>, Error> {
    let body = format!("{{\"status\":401,\"title\":\"Not signed in\",\"detail\":\"{detail}\"}}\n");
    let response = Response::builder()
        .status(StatusCode::UNAUTHORIZED)
        .header("content-type", "application/problem+json")
        .header("www-authenticate", format!("Bearer realm=\"shop\"{challenge}"))
        .body(Body::from(body))?;
    Ok(response)
}
