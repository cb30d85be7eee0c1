//! Verifies JSON Web Tokens (RFC 7519) signed with HS256 or EdDSA (RFC 8037), and nothing else: `none` and every
//! other algorithm are refused, and each algorithm has a key of its own, so that a public key is never taken for
//! a secret. Knows no HTTP and no clock.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::Sha256;

/// A token of ours is a few hundred bytes.
const LONGEST: usize = 4096;
/// Seconds that clocks may differ.
const SKEW: u64 = 30;

/// The keys that signatures are checked with; an algorithm without a key is refused.
#[derive(Default)]
pub struct Keys {
    /// Of HS256.
    pub secret: Option<Vec<u8>>,
    /// Of EdDSA, with Ed25519.
    pub public: Option<VerifyingKey>,
}

/// Who a token speaks of.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// What the user may be.
    #[serde(default)]
    pub roles: Vec<String>,
    /// When the token ends, in seconds since 1970. Required: a token that never ends cannot be taken back.
    exp: u64,
    #[serde(default)]
    nbf: u64,
    iss: String,
}

/// Why a token is not accepted.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Refused {
    /// It is not a token of three parts, or its parts are not what they should be.
    Malformed,
    /// It is signed in a way that is not accepted.
    Algorithm,
    /// The signature is not by the key.
    Signature,
    /// Its time is over, or has not come.
    Time,
    /// Someone else issued it.
    Issuer,
}

impl Refused {
    /// For the client: what to do differently, without what would help to forge.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "the token is not well formed",
            Self::Algorithm => "the token's algorithm is not accepted",
            Self::Signature => "the token's signature does not verify",
            Self::Time => "the token has expired or is not valid yet",
            Self::Issuer => "the token was issued by someone else",
        }
    }
}

#[derive(Deserialize)]
struct Head {
    alg: String,
}

/// Verifies `token` at `now`, in seconds since 1970.
pub fn verify(token: &str, keys: &Keys, issuer: &str, now: u64) -> Result<Claims, Refused> {
    if token.len() > LONGEST {
        return Err(Refused::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
    let (head, claims) = signed.split_once('.').ok_or(Refused::Malformed)?;
    let signature = decode(signature)?;
    // The signature first: nothing of a token is believed before it.
    match json::<Head>(head)?.alg.as_str() {
        "HS256" => hs256(keys, signed, &signature)?,
        "EdDSA" => eddsa(keys, signed, &signature)?,
        _ => return Err(Refused::Algorithm),
    }
    let claims: Claims = json(claims)?;
    if now > claims.exp.saturating_add(SKEW) || now.saturating_add(SKEW) < claims.nbf {
        return Err(Refused::Time);
    }
    if claims.iss != issuer {
        return Err(Refused::Issuer);
    }
    Ok(claims)
}

fn hs256(keys: &Keys, signed: &str, signature: &[u8]) -> Result<(), Refused> {
    let secret = keys.secret.as_deref().ok_or(Refused::Algorithm)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    mac.verify_slice(signature).map_err(|_| Refused::Signature)
}

fn eddsa(keys: &Keys, signed: &str, signature: &[u8]) -> Result<(), Refused> {
    let public = keys.public.as_ref().ok_or(Refused::Algorithm)?;
    let signature = Signature::from_slice(signature).map_err(|_| Refused::Signature)?;
    public
        .verify_strict(signed.as_bytes(), &signature)
        .map_err(|_| Refused::Signature)
}

fn json<T: DeserializeOwned>(part: &str) -> Result<T, Refused> {
    serde_json::from_slice(&decode(part)?).map_err(|_| Refused::Malformed)
}

fn decode(part: &str) -> Result<Vec<u8>, Refused> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn token(alg: &str, claims: &str, secret: &[u8]) -> String {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(&format!("{{\"alg\":\"{alg}\"}}")), encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
        mac.update(signed.as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    #[track_caller]
    fn check(token: &str, expected: Result<&str, Refused>) {
        let keys = Keys {
            secret: Some(b"secret".to_vec()),
            public: None,
        };
        let found = verify(token, &keys, "shop", NOW).map(|claims| claims.sub);
        assert_eq!(found, expected.map(str::to_owned), "{token}");
    }

    #[test]
    fn only_what_is_signed_current_and_ours_is_accepted() {
        let claims = |exp: u64, iss: &str| format!("{{\"sub\":\"ada\",\"iss\":\"{iss}\",\"exp\":{exp}}}");
        let good = claims(NOW + 60, "shop");
        check(&token("HS256", &good, b"secret"), Ok("ada"));
        check(&token("HS256", &good, b"other"), Err(Refused::Signature));
        check(&token("none", &good, b"secret"), Err(Refused::Algorithm));
        check(&token("EdDSA", &good, b"secret"), Err(Refused::Algorithm));
        check(&token("HS256", &claims(NOW - 60, "shop"), b"secret"), Err(Refused::Time));
        check(&token("HS256", &claims(NOW + 60, "bank"), b"secret"), Err(Refused::Issuer));
        check(&token("HS256", "{\"sub\":\"ada\",\"iss\":\"shop\"}", b"secret"), Err(Refused::Malformed));
        check("a.b", Err(Refused::Malformed));
        check(&"x".repeat(LONGEST + 1), Err(Refused::Malformed));
    }
}
