//! What a request says about its own signature, before anything is proven.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, Uri, header};
use model::Time;
use percent_encoding::percent_decode_str;

use super::{ALGORITHM, SKEW, SignatureError};

/// Longest life of a presigned URL (AWS: seven days).
const LONGEST: u64 = 7 * 24 * 3600;

/// Most headers that a signature may cover.
const HEADERS: usize = 100;

/// Who claims to have signed, when, for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The access key id.
    pub key: String,
    /// The day of the scope, `YYYYMMDD`.
    pub(super) date: String,
    /// The region of the scope.
    pub region: String,
    /// The service of the scope: `lambda`, `s3`, …
    pub service: String,
    /// When it was signed, as it was written.
    pub(super) timestamp: String,
    /// When it was signed.
    pub signed: Time,
    /// Whether the signature is in the URL.
    pub presigned: bool,
    /// How long a presigned URL holds.
    pub(super) expires: Duration,
    /// Lower-case names of the headers that it covers, in order.
    pub(super) headers: Vec<String>,
    pub(super) signature: Vec<u8>,
}

impl Claim {
    /// Reads the `Authorization` header, else the query of a presigned URL.
    ///
    /// # Errors
    /// [`SignatureError::Missing`], [`SignatureError::Malformed`] or [`SignatureError::Algorithm`].
    pub fn of(uri: &Uri, headers: &HeaderMap) -> Result<Self, SignatureError> {
        match headers.get(header::AUTHORIZATION) {
            Some(value) => {
                let text = value
                    .to_str()
                    .map_err(|_| malformed("`Authorization` is not ASCII"))?;
                Self::of_header(text, headers)
            }
            None => Self::of_query(uri.query().unwrap_or_default()),
        }
    }

    fn of_header(text: &str, headers: &HeaderMap) -> Result<Self, SignatureError> {
        let (algorithm, fields) = text.split_once(' ').unwrap_or((text, ""));
        check_algorithm(algorithm)?;
        let field = |name: &str| {
            let mut all = fields
                .split(',')
                .filter_map(|field| field.trim().split_once('='));
            all.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let timestamp = headers
            .get("x-amz-date")
            .or_else(|| headers.get(header::DATE));
        let timestamp = timestamp.and_then(|value| value.to_str().ok());
        Self::new(Parts {
            credential: field("Credential").ok_or(malformed("`Credential` is missing"))?,
            timestamp: timestamp.ok_or(malformed("`X-Amz-Date` is missing"))?,
            headers: field("SignedHeaders").ok_or(malformed("`SignedHeaders` is missing"))?,
            signature: field("Signature").ok_or(malformed("`Signature` is missing"))?,
            expires: None,
        })
    }

    fn of_query(query: &str) -> Result<Self, SignatureError> {
        let field = |name: &str| -> Option<Cow<'_, str>> {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(key, _)| *key == name)?;
            percent_decode_str(value).decode_utf8().ok()
        };
        let signature = field("X-Amz-Signature").ok_or(SignatureError::Missing)?;
        check_algorithm(
            &field("X-Amz-Algorithm").ok_or(malformed("`X-Amz-Algorithm` is missing"))?,
        )?;
        let expires = field("X-Amz-Expires").ok_or(malformed("`X-Amz-Expires` is missing"))?;
        let expires = expires
            .parse()
            .ok()
            .filter(|seconds| (1..=LONGEST).contains(seconds));
        Self::new(Parts {
            credential: &field("X-Amz-Credential")
                .ok_or(malformed("`X-Amz-Credential` is missing"))?,
            timestamp: &field("X-Amz-Date").ok_or(malformed("`X-Amz-Date` is missing"))?,
            headers: &field("X-Amz-SignedHeaders")
                .ok_or(malformed("`X-Amz-SignedHeaders` is missing"))?,
            signature: &signature,
            expires: Some(expires.ok_or(malformed("`X-Amz-Expires` is not 1 to 604800 seconds"))?),
        })
    }

    fn new(parts: Parts<'_>) -> Result<Self, SignatureError> {
        let scope: Vec<&str> = parts.credential.split('/').collect();
        let [key, date, region, service, "aws4_request"] = scope[..] else {
            return Err(malformed(
                "the credential is not `key/date/region/service/aws4_request`",
            ));
        };
        let signed =
            time(parts.timestamp).ok_or(malformed("the date is not `YYYYMMDDTHHMMSSZ`"))?;
        if !parts.timestamp.starts_with(date) || date.len() != 8 {
            return Err(malformed(
                "the date of the credential is not that of the request",
            ));
        }
        let signature = hex::decode(parts.signature).unwrap_or_default();
        if signature.len() != 32 {
            return Err(malformed("the signature is not 64 hex digits"));
        }
        Ok(Self {
            key: key.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            timestamp: parts.timestamp.to_owned(),
            signed,
            presigned: parts.expires.is_some(),
            expires: Duration::from_secs(parts.expires.unwrap_or_default()),
            headers: covered(parts.headers)?,
            signature,
        })
    }

    /// `date/region/service/aws4_request`.
    pub(super) fn scope(&self) -> String {
        format!(
            "{}/{}/{}/aws4_request",
            self.date, self.region, self.service
        )
    }

    /// A header holds for 15 minutes either way, an URL from 15 minutes before until it expires.
    pub(super) fn check_time(&self, now: Time) -> Result<(), SignatureError> {
        let life = if self.presigned { self.expires } else { SKEW };
        let early = self.signed > now + SKEW;
        let late = now > self.signed + life;
        if early || late {
            let signed = self.signed;
            return Err(SignatureError::Expired { signed, now });
        }
        Ok(())
    }
}

/// The texts of a claim.
struct Parts<'a> {
    credential: &'a str,
    timestamp: &'a str,
    headers: &'a str,
    signature: &'a str,
    /// Seconds; only in URLs.
    expires: Option<u64>,
}

const fn malformed(what: &'static str) -> SignatureError {
    SignatureError::Malformed(what)
}

fn check_algorithm(algorithm: &str) -> Result<(), SignatureError> {
    if algorithm == ALGORITHM {
        Ok(())
    } else {
        Err(SignatureError::Algorithm(
            algorithm.chars().take(40).collect(),
        ))
    }
}

/// The names of the covered headers: lower case, in order, each once, `host` among them.
fn covered(text: &str) -> Result<Vec<String>, SignatureError> {
    let names: Vec<String> = text.split(';').map(str::to_owned).collect();
    let in_order = names.windows(2).all(|pair| pair[0] < pair[1]);
    let lower = names
        .iter()
        .all(|name| name.bytes().all(|b| !b.is_ascii_uppercase()));
    if names.len() > HEADERS || !in_order || !lower {
        return Err(malformed(
            "the signed headers are not lower-case names in order",
        ));
    }
    if names.iter().all(|name| name != "host") {
        return Err(SignatureError::NotCovered("host".to_owned()));
    }
    Ok(names)
}

/// `YYYYMMDDTHHMMSSZ` (ISO 8601, basic format).
fn time(text: &str) -> Option<Time> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    let (year, month, day) = (&text[..4], &text[4..6], &text[6..8]);
    let (hour, minute, second) = (&text[9..11], &text[11..13], &text[13..15]);
    if &text[8..9] != "T" || &text[15..] != "Z" {
        return None;
    }
    Time::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}
