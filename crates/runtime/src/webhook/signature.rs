//! Signatures of webhooks, after Standard Webhooks 1.0.0
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>): HMAC-SHA-256 over
//! `id.timestamp.body`, `v1,` and base64, one for each secret. Pure.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use model::Invocation;
use sha2::{Digest, Sha256};

/// What a secret begins with.
pub const PREFIX: &str = "whsec_";
/// How many bytes a secret has, decoded.
pub const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that signs.
pub struct Key(hmac::Key);

impl Key {
    /// Reads `whsec_` and base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// What is wrong with it, without a byte of it.
    pub fn parse(secret: &str) -> Result<Self, &'static str> {
        let encoded = secret.trim().strip_prefix(PREFIX);
        let encoded = encoded.ok_or("does not begin with `whsec_`")?;
        let bytes = STANDARD.decode(encoded).map_err(|_| "is not base64")?;
        if !BYTES.contains(&bytes.len()) {
            return Err("does not have 24 to 64 bytes");
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }
}

/// The value of `webhook-signature`: one signature for each key, in their order.
#[must_use]
pub(super) fn sign(keys: &[Key], id: &str, timestamp: u64, body: &[u8]) -> String {
    let signed = |key: &Key| {
        let mut context = hmac::Context::with_key(&key.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    };
    keys.iter().map(signed).collect::<Vec<_>>().join(" ")
}

/// The value of `webhook-id`: the same on every attempt of the same delivery, and without a full stop, which would
/// make what is signed ambiguous.
#[must_use]
pub(super) fn id(invocation: &Invocation) -> String {
    let hash = match &invocation.idempotency_key {
        Some(key) => Sha256::digest(key.as_bytes()),
        None => Sha256::digest(invocation.id.to_string()),
    };
    format!("msg_{}", hex::encode(&hash[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = || Key::parse(SECRET).unwrap_or_else(|problem| panic!("{problem}"));
        let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let other = Key::parse(other).unwrap_or_else(|problem| panic!("{problem}"));
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(&[key()], id, 1_614_265_330, body), expected);
        let both = sign(&[key(), other], id, 1_614_265_330, body);
        let signatures: Vec<&str> = both.split(' ').collect();
        assert_eq!((signatures.len(), signatures[0]), (2, expected));
        assert_ne!(signatures[1], expected);
    }

    #[test]
    fn what_is_no_secret_says_why() {
        for (secret, problem) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_"),
            ("whsec_!!!!", "base64"),
            ("whsec_c2hvcnQ=", "24 to 64"),
            (&format!("whsec_{}", STANDARD.encode([7; 65])), "24 to 64"),
        ] {
            let told = Key::parse(secret).err();
            assert!(told.is_some_and(|told| told.contains(problem)), "{secret}");
        }
    }
}
