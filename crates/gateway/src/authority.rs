//! Whom a request is addressed to: `Host`, `:authority` or the absolute form, which must not contradict each other.

use http::{
    HeaderValue, Version,
    header::{CONTENT_LENGTH, HOST},
    request::Parts,
};
use model::{Error, code};

/// In a request's extensions: why two servers could read it differently, as its bytes show and its head no longer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous(pub(crate) &'static str);

/// The authority of a request: as the client wrote it, and the name in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authority(Option<HeaderValue>);

impl Authority {
    /// Reads it (RFC 9112 §3.2, RFC 9113 §8.3.1).
    ///
    /// # Errors
    /// `BAD_REQUEST` when it is missing in HTTP/1.1, given twice, malformed, or when URI and `Host` differ; and when
    /// something else of the request is not certain.
    pub fn read(head: &Parts) -> Result<Self, Error> {
        certain(head)?;
        let mut hosts = head.headers.get_all(HOST).iter();
        let (host, second) = (hosts.next(), hosts.next());
        if second.is_some() {
            return Err(bad("it has more than one `Host` header"));
        }
        let named = head.uri.authority().map(http::uri::Authority::as_str);
        if let (Some(host), Some(named)) = (host, named)
            && !host.as_bytes().eq_ignore_ascii_case(named.as_bytes())
        {
            return Err(bad("its URI and its `Host` header name different hosts"));
        }
        let value = match (host, named) {
            (Some(host), _) => host.clone(),
            (None, Some(named)) => {
                HeaderValue::from_str(named).map_err(|_| bad("its host is not well formed"))?
            }
            (None, None) if head.version == Version::HTTP_11 => {
                return Err(bad("it has no `Host` header"));
            }
            (None, None) => return Ok(Self(None)),
        };
        if !is_well_formed(value.as_bytes()) {
            return Err(bad("its host is not well formed"));
        }
        Ok(Self(Some(value)))
    }

    /// As the client wrote it, port included.
    #[must_use]
    pub const fn value(&self) -> Option<&HeaderValue> {
        self.0.as_ref()
    }

    /// The host without its port; empty when the client named none.
    #[must_use]
    pub fn name(&self) -> &str {
        let text = self
            .0
            .as_ref()
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if let Some(end) = text.starts_with('[').then(|| text.find(']')).flatten() {
            return &text[..=end];
        }
        text.split_once(':').map_or(text, |(name, _)| name)
    }
}

/// # Errors
/// `BAD_REQUEST` when its connection saw that two servers could read it differently.
pub(crate) fn certain(head: &Parts) -> Result<(), Error> {
    // HTTP/1.1 shows this in its bytes; HTTP/2 frames its bodies itself, and is sent on as HTTP/1.1.
    let lengths = || head.headers.get_all(CONTENT_LENGTH).iter().count();
    match head.extensions.get() {
        Some(Ambiguous(why)) => Err(bad(why)),
        None if head.version == Version::HTTP_2 && lengths() > 1 => {
            Err(bad("it has more than one `Content-Length` header"))
        }
        None => Ok(()),
    }
}

fn bad(why: &str) -> Error {
    Error::new(
        code::BAD_REQUEST,
        format!("the request is ambiguous or incomplete: {why}"),
    )
}

/// Letters, digits and what names, addresses and ports are made of: no user, no space, no list.
fn is_well_formed(text: &[u8]) -> bool {
    let good = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:[]".contains(b);
    let colons = text.iter().filter(|&&b| b == b':').count();
    text.len() <= 261 && text.iter().all(good) && (colons <= 1 || text.starts_with(b"["))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(uri: &str, version: Version, hosts: &[&str]) -> Result<String, model::Code> {
        let mut request = Request::builder().uri(uri).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (head, ()) = request.body(()).expect("is a request").into_parts();
        Authority::read(&head)
            .map(|a| a.name().to_owned())
            .map_err(|e| e.code)
    }

    #[test]
    fn one_length_in_http_2_too() {
        for (lengths, certain) in [(0, true), (1, true), (2, false)] {
            let mut request = Request::post("http://shop/").version(Version::HTTP_2);
            for _ in 0..lengths {
                request = request.header(CONTENT_LENGTH, "5");
            }
            let (head, ()) = request.body(()).expect("is a request").into_parts();
            assert_eq!(Authority::read(&head).is_ok(), certain, "{lengths}");
        }
    }

    #[test]
    fn one_host_and_no_contradiction() {
        for (uri, version, hosts, expected) in [
            ("/", Version::HTTP_11, vec!["shop:8080"], Ok("shop")),
            ("/", Version::HTTP_11, vec!["[::1]:80"], Ok("[::1]")),
            ("/", Version::HTTP_11, vec![""], Ok("")),
            ("/", Version::HTTP_10, vec![], Ok("")),
            ("http://shop/", Version::HTTP_2, vec![], Ok("shop")),
            (
                "http://shop:1/",
                Version::HTTP_11,
                vec!["SHOP:1"],
                Ok("SHOP"),
            ),
            ("/", Version::HTTP_11, vec![], Err(code::BAD_REQUEST)),
            (
                "/",
                Version::HTTP_11,
                vec!["a", "a"],
                Err(code::BAD_REQUEST),
            ),
            (
                "http://a/",
                Version::HTTP_11,
                vec!["b"],
                Err(code::BAD_REQUEST),
            ),
            (
                "http://a/",
                Version::HTTP_2,
                vec!["b"],
                Err(code::BAD_REQUEST),
            ),
            ("/", Version::HTTP_11, vec!["u@h"], Err(code::BAD_REQUEST)),
            ("/", Version::HTTP_11, vec!["a,b"], Err(code::BAD_REQUEST)),
            ("/", Version::HTTP_11, vec!["a:1:2"], Err(code::BAD_REQUEST)),
        ] {
            assert_eq!(
                read(uri, version, &hosts),
                expected.map(str::to_owned),
                "{uri} {hosts:?}"
            );
        }
    }
}
