//! Mesh tokens: 128 random bits per instance, in its environment only, that say who calls.
//!
//! A token is looked up by its SHA-256, so that neither a dump of the table nor the time of a comparison tells one.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

/// Tokens and whom they stand for.
pub struct MeshTokens<T> {
    known: RwLock<HashMap<[u8; 32], Arc<T>>>,
}

impl<T> Default for MeshTokens<T> {
    fn default() -> Self {
        Self {
            known: RwLock::default(),
        }
    }
}

impl<T> MeshTokens<T> {
    /// Makes the token of `random` stand for `who`, and returns it: 32 hex digits.
    #[must_use]
    pub fn mint(&self, random: u128, who: Arc<T>) -> String {
        let token = format!("{random:032x}");
        self.known.write().insert(digest(&token), who);
        token
    }

    /// Whom `token` stands for.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<T>> {
        self.known.read().get(&digest(token)).cloned()
    }

    /// Ends every token whose holder `gone` says is gone.
    pub fn revoke(&self, gone: impl Fn(&T) -> bool) {
        self.known.write().retain(|_, who| !gone(who));
    }
}

fn digest(token: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_token_stands_for_nobody() {
        let tokens = MeshTokens::default();
        let (a, b) = (tokens.mint(1, Arc::new("a")), tokens.mint(2, Arc::new("b")));
        assert_eq!(tokens.find(&a).as_deref(), Some(&"a"));
        tokens.revoke(|who| *who == "a");
        assert_eq!(
            (tokens.find(&a), tokens.find(&b).as_deref()),
            (None, Some(&"b"))
        );
        assert_eq!(tokens.find("no token"), None);
    }
}
