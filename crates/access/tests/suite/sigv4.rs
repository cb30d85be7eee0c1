//! The table `sigv4.json` is made by `sigv4.py` with botocore.

use std::{collections::BTreeMap, time::Duration};

use access::sigv4::{Claim, Payload, SignatureError, verify};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use model::Time;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// 2026-11-21T08:00:00Z, when all of the table was signed.
const SIGNED: Time = Time::from_millis(1_795_248_000_000);

#[derive(Debug, Clone, serde::Deserialize)]
struct Signed {
    name: String,
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Signed {
    fn verify_with(
        &self,
        payload: Payload<'_>,
        secret: &str,
        now: Time,
    ) -> Result<Claim, SignatureError> {
        let method: Method = self.method.parse().expect("a method");
        let uri: Uri = self.target.parse().expect("an URI");
        let headers: HeaderMap = self
            .headers
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().expect("a name");
                (name, HeaderValue::from_str(value).expect("a value"))
            })
            .collect();
        verify(&method, &uri, &headers, payload, secret, now)
    }

    fn verify(&self) -> Result<Claim, SignatureError> {
        self.verify_with(Payload::Whole(self.body.as_bytes()), SECRET, SIGNED)
    }

    fn verify_at(&self, now: Time) -> Result<Claim, SignatureError> {
        self.verify_with(Payload::Whole(self.body.as_bytes()), SECRET, now)
    }

    /// The same with another value of a header.
    fn with(&self, name: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.insert(name.to_owned(), value.to_owned());
        changed
    }

    /// The same with a part of the `Authorization` header replaced.
    fn authorized(&self, from: &str, to: &str) -> Self {
        let value = &self.headers["authorization"];
        assert!(value.contains(from), "{value}");
        self.with("authorization", &value.replace(from, to))
    }
}

fn table() -> Vec<Signed> {
    serde_json::from_str(include_str!("sigv4.json")).expect("is a table")
}

fn named(name: &str) -> Signed {
    let mut table = table().into_iter();
    table
        .find(|case| case.name == name)
        .expect("is in the table")
}

fn invocation() -> Signed {
    named("a Lambda invocation")
}

#[test]
fn what_botocore_signs_verifies() {
    for case in table() {
        let claim = case
            .verify()
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(
            (claim.key.as_str(), claim.region.as_str()),
            ("AKIDEXAMPLE", "eu-central-1"),
            "{}",
            case.name
        );
        assert_eq!(claim.signed, SIGNED, "{}", case.name);
    }
    assert_eq!(table().len(), 11);
}

#[test]
fn nothing_of_a_signed_request_can_be_changed() {
    for case in table() {
        let spoiled = [
            Signed {
                method: "DELETE".to_owned(),
                ..case.clone()
            },
            Signed {
                target: case.target.replacen('/', "/x", 1),
                ..case.clone()
            },
            Signed {
                target: format!(
                    "{}{}a=1",
                    case.target,
                    if case.target.contains('?') { '&' } else { '?' }
                ),
                ..case.clone()
            },
            case.with("host", "elsewhere"),
        ];
        for spoiled in spoiled {
            assert_eq!(
                spoiled.verify(),
                Err(SignatureError::Mismatch),
                "{}",
                case.name
            );
        }
        let whole = Payload::Whole(case.body.as_bytes());
        assert_eq!(
            case.verify_with(whole, "another", SIGNED),
            Err(SignatureError::Mismatch),
            "{}",
            case.name
        );
    }
    let other_body = Signed {
        body: "{}".to_owned(),
        ..invocation()
    };
    assert_eq!(other_body.verify(), Err(SignatureError::Mismatch));
    let covered = invocation().with("x-amz-invocation-type", "RequestResponse");
    assert_eq!(covered.verify(), Err(SignatureError::Mismatch));
    let hashed = Signed {
        body: "other".to_owned(),
        ..named("S3 with a hash")
    };
    assert_eq!(hashed.verify(), Err(SignatureError::Body));
}

#[test]
fn a_header_that_matters_must_be_covered_and_there() {
    let added = invocation().with("x-amz-client-context", "e30=");
    assert_eq!(
        added.verify(),
        Err(SignatureError::NotCovered(
            "x-amz-client-context".to_owned()
        ))
    );
    let harmless = invocation()
        .with("x-amzn-trace-id", "Root=1-2")
        .with("user-agent", "x");
    assert!(harmless.verify().is_ok());
    let mut removed = invocation();
    removed.headers.remove("content-type");
    assert_eq!(
        removed.verify(),
        Err(SignatureError::NotThere("content-type".to_owned()))
    );
    let without_host = invocation().authorized("host;", "");
    assert_eq!(
        without_host.verify(),
        Err(SignatureError::NotCovered("host".to_owned()))
    );
}

#[test]
fn signatures_hold_for_their_time_only() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let invocation = invocation();
    assert!(invocation.verify_at(SIGNED + minutes(15)).is_ok());
    assert!(invocation.verify_at(SIGNED - minutes(15)).is_ok());
    for now in [SIGNED + minutes(16), SIGNED - minutes(16)] {
        let expired = Err(SignatureError::Expired {
            signed: SIGNED,
            now,
        });
        assert_eq!(invocation.verify_at(now), expired);
    }
    let presigned = named("S3 presigned");
    assert!(presigned.verify_at(SIGNED + minutes(60)).is_ok());
    assert!(presigned.verify_at(SIGNED + minutes(61)).is_err());
    assert!(
        named("Lambda presigned")
            .verify_at(SIGNED + minutes(2))
            .is_err()
    );
    let longer = Signed {
        target: presigned.target.replace("Expires=3600", "Expires=7200"),
        ..presigned
    };
    assert_eq!(longer.verify(), Err(SignatureError::Mismatch));
}

#[test]
fn bodies_that_are_not_read_need_a_hash() {
    let unread = |case: Signed| case.verify_with(Payload::Unread, SECRET, SIGNED);
    assert_eq!(unread(invocation()), Err(SignatureError::BodyNeeded));
    assert!(unread(named("S3 with a hash")).is_ok());
    assert!(unread(named("S3 presigned")).is_ok());
}

#[test]
fn what_is_not_a_signature_says_why() {
    let case = invocation();
    let mut unsigned = case.clone();
    unsigned.headers.remove("authorization");
    assert_eq!(unsigned.verify(), Err(SignatureError::Missing));
    let bearer = case.with("authorization", "Bearer abc");
    assert_eq!(
        bearer.verify(),
        Err(SignatureError::Algorithm("Bearer".to_owned()))
    );
    for (from, to) in [
        ("Credential=", "Credentials="),
        ("/aws4_request", "/aws5_request"),
        ("/20261121/", "/20261120/"),
        (
            "SignedHeaders=content-type;",
            "SignedHeaders=zzz;content-type;",
        ),
        ("SignedHeaders=content-type;", "SignedHeaders=Content-Type;"),
        ("Signature=", "Signature=zz"),
        ("Signature=", "Signature=00"),
    ] {
        let error = case.authorized(from, to).verify().expect_err("is refused");
        assert_eq!(
            error.aws_name(),
            "IncompleteSignatureException",
            "{from} → {to}: {error}"
        );
    }
    for date in [
        "20261121T080000",
        "2026-11-21T08:00:00Z",
        "20261321T080000Z",
        "äöü",
        "",
    ] {
        let error = case
            .with("x-amz-date", date.trim_matches('ä'))
            .verify()
            .expect_err("is refused");
        assert!(
            matches!(error, SignatureError::Malformed(_)),
            "{date}: {error}"
        );
    }
}
