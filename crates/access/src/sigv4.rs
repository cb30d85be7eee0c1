//! AWS Signature Version 4, verified from the bytes that came: as an `Authorization` header or as a presigned URL.
//!
//! Region and service are taken from the credential scope, because an endpoint on this machine serves all of them.
//! Nothing is looked up here: the caller finds the secret of [`Claim::key`] and hands it in.

mod canonical;
mod claim;

use std::time::Duration;

use aws_lc_rs::{constant_time, digest, hmac};
use http::{HeaderMap, Method, Uri};
use model::Time;

pub use claim::Claim;

/// How far the sender's clock may be off (AWS: 15 minutes).
const SKEW: Duration = Duration::from_secs(15 * 60);

/// The only algorithm; `AWS4-ECDSA-P256-SHA256` (Version 4A) is not verified.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Why a signature does not prove who sent a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("the request is not signed: it has no `Authorization` header and no `X-Amz-Signature`")]
    Missing,
    /// It is not written as AWS writes it.
    #[error("the signature is not well formed: {0}")]
    Malformed(&'static str),
    /// It was made by another algorithm.
    #[error("signatures of the algorithm `{0}` are not verified, only {ALGORITHM}")]
    Algorithm(String),
    /// The request was signed too long ago, or lies in the future.
    #[error("the request was signed at {signed:?}, which is too far from {now:?}")]
    Expired {
        /// When it says that it was signed.
        signed: Time,
        /// The time here.
        now: Time,
    },
    /// A header that changes the meaning of the request is not covered.
    #[error("the signature does not cover the header `{0}`")]
    NotCovered(String),
    /// A header that the signature covers is not there.
    #[error("the signature covers the header `{0}`, which the request does not have")]
    NotThere(String),
    /// The body is not the one that was signed.
    #[error("the body is not the one that `x-amz-content-sha256` describes")]
    Body,
    /// The body has to be read first, because the request does not name its hash.
    #[error("the request names no hash of its body, so it can only be verified with the body")]
    BodyNeeded,
    /// Another secret, or another request.
    #[error("the signature does not match the request and the secret of its access key")]
    Mismatch,
}

impl SignatureError {
    /// The name of this error in the AWS protocols ("Common Errors" of each service).
    #[must_use]
    pub const fn aws_name(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Malformed(_) | Self::Algorithm(_) | Self::NotThere(_) => {
                "IncompleteSignatureException"
            }
            Self::Expired { .. }
            | Self::NotCovered(_)
            | Self::Body
            | Self::BodyNeeded
            | Self::Mismatch => "InvalidSignatureException",
        }
    }
}

/// What is known of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// All of it: its hash must be the signed one.
    Whole(&'a [u8]),
    /// Not read yet. Enough when the request names a hash, which the reader of the body then has to check.
    Unread,
}

/// Verifies that whoever knows `secret` signed this request. `uri` and `headers` must be as they came.
///
/// A payload that was declared as not signed (`UNSIGNED-PAYLOAD`) or as signed chunk by chunk (`STREAMING-…`) is
/// taken as such: the signature covers that declaration, and chunks are for the reader of the body to verify.
///
/// # Errors
/// [`SignatureError`] says why it proves nothing.
pub fn verify(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    payload: Payload<'_>,
    secret: &str,
    now: Time,
) -> Result<Claim, SignatureError> {
    let claim = Claim::of(uri, headers)?;
    claim.check_time(now)?;
    let payload_hash = payload_hash(&claim, headers, payload)?;
    let canonical = canonical::request(method, uri, headers, &claim, &payload_hash)?;
    let to_sign = format!(
        "{ALGORITHM}\n{}\n{}\n{}",
        claim.timestamp,
        claim.scope(),
        hex::encode(sha256(canonical.as_bytes())),
    );
    let tag = hmac::sign(&signing_key(secret, &claim), to_sign.as_bytes());
    constant_time::verify_slices_are_equal(tag.as_ref(), &claim.signature)
        .map_err(|_| SignatureError::Mismatch)?;
    Ok(claim)
}

/// The last line of the canonical request.
fn payload_hash(
    claim: &Claim,
    headers: &HeaderMap,
    payload: Payload<'_>,
) -> Result<String, SignatureError> {
    let declared = headers.get("x-amz-content-sha256");
    let declared = declared.map(|value| value.to_str().unwrap_or_default());
    match (declared, payload) {
        (Some(declared), Payload::Whole(body)) if is_hash(declared) => {
            let found = hex::encode(sha256(body));
            found
                .eq_ignore_ascii_case(declared)
                .then(|| declared.to_owned())
                .ok_or(SignatureError::Body)
        }
        (Some(declared), _) => Ok(declared.to_owned()),
        (None, _) if claim.presigned && claim.service == "s3" => Ok("UNSIGNED-PAYLOAD".to_owned()),
        (None, Payload::Whole(body)) => Ok(hex::encode(sha256(body))),
        (None, Payload::Unread) => Err(SignatureError::BodyNeeded),
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn signing_key(secret: &str, claim: &Claim) -> hmac::Key {
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let first = key(format!("AWS4{secret}").as_bytes());
    let steps = [
        claim.date.as_str(),
        &claim.region,
        &claim.service,
        "aws4_request",
    ];
    steps.iter().fold(first, |k, step| {
        key(hmac::sign(&k, step.as_bytes()).as_ref())
    })
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}
