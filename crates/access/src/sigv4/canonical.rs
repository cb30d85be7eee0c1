//! The canonical request: one text for all ways to write the same request (AWS, "Create a canonical request").

use std::fmt::Write;

use http::{HeaderMap, HeaderName, Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::{Claim, SignatureError};

/// All but the unreserved characters of RFC 3986.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// The same, with `/` for paths.
const PATH: &AsciiSet = &STRICT.remove(b'/');

/// The canonical request of what `claim` covers.
pub(super) fn request(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    claim: &Claim,
    payload_hash: &str,
) -> Result<String, SignatureError> {
    check_covered(headers, claim)?;
    let mut text = format!(
        "{method}\n{}\n{}\n",
        path(uri.path(), &claim.service),
        query(uri.query().unwrap_or_default()),
    );
    for name in &claim.headers {
        writeln!(text, "{name}:{}", header(name, uri, headers)?)
            .expect("writing to a string does not fail");
    }
    text.push('\n');
    text.push_str(&claim.headers.join(";"));
    text.push('\n');
    text.push_str(payload_hash);
    Ok(text)
}

/// What changes the meaning of a request must be signed.
fn check_covered(headers: &HeaderMap, claim: &Claim) -> Result<(), SignatureError> {
    let covered = |name: &HeaderName| claim.headers.iter().any(|n| n == name.as_str());
    let mut matters = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-amz-"));
    match matters.find(|name| !covered(name)) {
        Some(name) => Err(SignatureError::NotCovered(name.to_string())),
        None => Ok(()),
    }
}

/// S3 signs the path as it is sent; all others without dot segments and encoded once more.
fn path(path: &str, service: &str) -> String {
    if service == "s3" {
        return path.to_owned();
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    let clean = format!("/{}{end}", segments.join("/"));
    percent_encode(clean.as_bytes(), PATH).to_string()
}

/// Every pair encoded the same way, sorted by name and value, without the signature itself.
fn query(query: &str) -> String {
    let encode = |text: &str| {
        let plain: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&plain, STRICT).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// All values of a header, joined by commas, each without superfluous spaces.
fn header(name: &str, uri: &Uri, headers: &HeaderMap) -> Result<String, SignatureError> {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|v| squeezed(v.as_bytes()))
        .collect();
    match (values.is_empty(), uri.authority()) {
        (false, _) => Ok(values.join(",")),
        // HTTP/2 has no `Host`.
        (true, Some(authority)) if name == "host" => Ok(authority.to_string()),
        (true, _) => Err(SignatureError::NotThere(name.to_owned())),
    }
}

fn squeezed(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").trim().to_owned()
}
