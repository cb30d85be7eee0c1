//! What of a request may be written down: credentials may not.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers whose values prove who sent them.
const CREDENTIALS: [&str; 7] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-amz-security-token",
    "x-api-key",
    "x-tangelo-token",
];

/// Query parameters whose values prove who sent them.
const PARAMETERS: [&str; 5] = [
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "access_token",
    "api_key",
    "token",
];

/// What stands for a credential.
const HIDDEN: &str = "[redacted]";

/// The value of a header as it may be written down.
#[must_use]
pub fn header<'v>(name: &HeaderName, value: &'v HeaderValue) -> Cow<'v, str> {
    if CREDENTIALS.contains(&name.as_str()) || value.is_sensitive() {
        Cow::Borrowed(HIDDEN)
    } else {
        String::from_utf8_lossy(value.as_bytes())
    }
}

/// All headers as they may be written down.
pub fn headers(headers: &HeaderMap) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), header(name, value)))
}

/// Path and query as they may be written down: without mesh tokens (`/~TOKEN/…`) and signatures.
#[must_use]
pub fn target(path_and_query: &str) -> String {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut out = match path.strip_prefix("/~") {
        Some(rest) => format!("/~{HIDDEN}{}", rest.find('/').map_or("", |at| &rest[at..])),
        None => path.to_owned(),
    };
    if let Some(query) = query {
        let pairs: Vec<Cow<'_, str>> = query.split('&').map(parameter).collect();
        out.push('?');
        out.push_str(&pairs.join("&"));
    }
    out
}

fn parameter(pair: &str) -> Cow<'_, str> {
    match pair.split_once('=') {
        Some((name, _)) if PARAMETERS.iter().any(|p| p.eq_ignore_ascii_case(name)) => {
            Cow::Owned(format!("{name}={HIDDEN}"))
        }
        _ => Cow::Borrowed(pair),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_the_rest_is_not() {
        let mut map = HeaderMap::new();
        map.insert("authorization", HeaderValue::from_static("Bearer abc"));
        map.insert("accept", HeaderValue::from_static("*/*"));
        let shown: Vec<(&str, Cow<'_, str>)> = headers(&map).collect();
        assert_eq!(
            shown,
            [("authorization", HIDDEN.into()), ("accept", "*/*".into())]
        );
    }

    #[test]
    fn targets_lose_tokens_and_signatures() {
        for (target, shown) in [
            ("/a/b?c=d", "/a/b?c=d"),
            ("/~0123/w/orders?x", "/~[redacted]/w/orders?x"),
            ("/~0123", "/~[redacted]"),
            (
                "/a?x-amz-signature=0&b=1&token=2",
                "/a?x-amz-signature=[redacted]&b=1&token=[redacted]",
            ),
        ] {
            assert_eq!(super::target(target), shown);
        }
    }
}
