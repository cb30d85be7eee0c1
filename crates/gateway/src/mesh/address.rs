//! Where a request on the mesh's socket wants to go, and the token that it carries: in its path, or as a proxy's
//! credentials.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, Method, Uri, header::PROXY_AUTHORIZATION, request::Parts, uri::PathAndQuery,
};
use model::{Error, code};

/// What a request's target says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// `/~TOKEN/rest`.
    Token {
        token: String,
        /// The rest, in origin form.
        rest: Uri,
    },
    /// `http://name/path`, as clients with `http_proxy` send it.
    Proxy {
        /// From `Proxy-Authorization`, if it is there.
        token: Option<String>,
        host: String,
        /// In origin form.
        uri: Uri,
    },
    /// Any other path.
    Open(Uri),
}

impl Address {
    /// What is asked for there.
    pub(super) const fn uri(&self) -> &Uri {
        match self {
            Self::Token { rest, .. } => rest,
            Self::Proxy { uri, .. } | Self::Open(uri) => uri,
        }
    }
}

/// Reads it.
///
/// # Errors
/// `METHOD_NOT_ALLOWED` for CONNECT, `BAD_REQUEST` for what is no target.
pub(super) fn read(head: &Parts) -> Result<Address, Error> {
    if head.method == Method::CONNECT {
        let message = "the mesh's proxy opens no tunnels: names inside are reached by http://, hosts outside directly \
                       (leave https_proxy unset)";
        return Err(Error::new(code::METHOD_NOT_ALLOWED, message));
    }
    let path = head
        .uri
        .path_and_query()
        .cloned()
        .ok_or_else(|| bad("it has no path"))?;
    if let Some(rest) = path.as_str().strip_prefix("/~") {
        return with_token(rest);
    }
    let uri = Uri::from(path);
    match (head.uri.scheme_str(), head.uri.host()) {
        // HTTP/2 has a scheme always; there a proxy is asked with CONNECT only.
        (Some("http"), Some(host)) if head.version < http::Version::HTTP_2 => Ok(Address::Proxy {
            token: credentials(&head.headers),
            host: host.to_ascii_lowercase(),
            uri,
        }),
        (Some("http") | None, _) => Ok(Address::Open(uri)),
        (Some(scheme), _) => Err(bad(&format!("the mesh's proxy speaks http, not {scheme}"))),
    }
}

fn with_token(text: &str) -> Result<Address, Error> {
    let end = text.find(['/', '?']).unwrap_or(text.len());
    let (token, rest) = text.split_at(end);
    let rest = if rest.starts_with('/') {
        PathAndQuery::try_from(rest)
    } else {
        PathAndQuery::try_from(format!("/{rest}"))
    };
    let rest = rest.map_err(|_| bad("what follows the token is no path"))?;
    Ok(Address::Token {
        token: token.to_owned(),
        rest: Uri::from(rest),
    })
}

/// The user name of `Proxy-Authorization: Basic …` (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<String> {
    let (scheme, encoded) = headers
        .get(PROXY_AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let user = decoded.split(':').next().unwrap_or_default();
    (!user.is_empty()).then(|| user.to_owned())
}

fn bad(why: &str) -> Error {
    Error::new(
        code::BAD_REQUEST,
        format!("the request is not one for the mesh: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read_from(method: &str, uri: &str, proxy: Option<&str>) -> Result<Address, model::Code> {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(proxy) = proxy {
            request = request.header(PROXY_AUTHORIZATION, proxy);
        }
        let (head, ()) = request.body(()).expect("is a request").into_parts();
        read(&head).map_err(|error| error.code)
    }

    fn uri(text: &'static str) -> Uri {
        Uri::from_static(text)
    }

    #[test]
    fn a_token_in_the_path_is_taken_off() {
        let token = |rest| {
            Ok(Address::Token {
                token: "abc".to_owned(),
                rest: uri(rest),
            })
        };
        assert_eq!(
            read_from("GET", "/~abc/w/orders/a%2Fb?x=/~y", None),
            token("/w/orders/a%2Fb?x=/~y")
        );
        assert_eq!(
            read_from("GET", "http://127.0.0.1:1/~abc/events", None),
            token("/events")
        );
        assert_eq!(read_from("GET", "/~abc", None), token("/"));
        assert_eq!(read_from("GET", "/~abc?x=1", None), token("/?x=1"));
        assert_eq!(
            read_from("GET", "/w/orders", None),
            Ok(Address::Open(uri("/w/orders")))
        );
    }

    #[test]
    fn a_proxy_request_names_its_host_and_its_token() {
        let proxied = |token: Option<&str>| {
            let token = token.map(str::to_owned);
            Ok(Address::Proxy {
                token,
                host: "catalog.internal".to_owned(),
                uri: uri("/a?b"),
            })
        };
        let url = "http://Catalog.internal:8080/a?b";
        assert_eq!(
            read_from("GET", url, Some("Basic YWJjOg==")),
            proxied(Some("abc"))
        );
        assert_eq!(
            read_from("GET", url, Some("basic YWJjOnNlY3JldA==")),
            proxied(Some("abc"))
        );
        for bad in [
            None,
            Some("Basic ###"),
            Some("Bearer abc"),
            Some("Basic Og=="),
        ] {
            assert_eq!(read_from("GET", url, bad), proxied(None), "{bad:?}");
        }
        assert_eq!(
            read_from("CONNECT", "orders.internal:443", None),
            Err(code::METHOD_NOT_ALLOWED)
        );
        assert_eq!(
            read_from("GET", "ftp://orders.internal/", None),
            Err(code::BAD_REQUEST)
        );
    }
}
