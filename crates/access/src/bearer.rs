//! Secrets that somebody presents as a bearer token (RFC 6750), compared in constant time.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use http::{HeaderMap, header::AUTHORIZATION};

use crate::Secrets;

/// Shorter secrets open nothing: they can be guessed.
pub const SHORTEST: usize = 16;

/// The token of `Authorization: Bearer`.
#[must_use]
pub fn presented(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether `token` is one of the secrets `names`. Takes as long for a token that is nearly right.
#[must_use]
pub fn is_one_of(secrets: &Secrets, names: &[String], token: &str) -> bool {
    let token = digest(&SHA256, token.as_bytes());
    names.iter().fold(false, |found, name| {
        let same = secrets.get(name).is_some_and(|secret| {
            let secret_hash = digest(&SHA256, secret.as_bytes());
            let same = verify_slices_are_equal(secret_hash.as_ref(), token.as_ref()).is_ok();
            same && secret.len() >= SHORTEST
        });
        found | same
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(authorization: &str, expected: bool) {
        let pairs = [
            ("A", "a-long-enough-secret"),
            ("B", "short"),
            ("C", "another-long-secret"),
        ];
        let secrets: Secrets = pairs
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .into_iter()
            .collect();
        let names = ["A".to_owned(), "B".to_owned(), "MISSING".to_owned()];
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().expect("a header"));
        let token = presented(&headers);
        let good = token.is_some_and(|token| is_one_of(&secrets, &names, token));
        assert_eq!(good, expected, "{authorization}");
    }

    #[test]
    fn only_the_whole_secret_of_a_name_that_counts_is_one() {
        check("Bearer a-long-enough-secret", true);
        check("bearer a-long-enough-secret", true);
        check("Bearer a-long-enough-secre", false);
        check("Basic a-long-enough-secret", false);
        check("Bearer short", false);
        check("Bearer another-long-secret", false);
        check("Bearer", false);
        check("Bearer ", false);
    }
}
