//! AWS key pairs of instances: an SDK inside a workload signs with one, and the AWS door learns from it who calls.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;

/// A key pair as an AWS SDK wants it.
#[derive(Clone)]
pub struct KeyPair {
    /// The access key id: 20 characters, beginning with `AKIA`'s sibling for temporary keys, `ASIA`.
    pub id: String,
    /// The secret access key: 32 hex digits.
    pub secret: String,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Key pairs and whom they stand for.
pub struct InstanceKeys<T>(RwLock<HashMap<String, (String, Arc<T>)>>);

impl<T> Default for InstanceKeys<T> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<T> InstanceKeys<T> {
    /// Makes a pair of two random numbers stand for `who`.
    #[must_use]
    pub fn mint(&self, id: u128, secret: u128, who: Arc<T>) -> KeyPair {
        let pair = KeyPair {
            id: format!("ASIA{}", base32(id)),
            secret: format!("{secret:032x}"),
        };
        self.0
            .write()
            .insert(pair.id.clone(), (pair.secret.clone(), who));
        pair
    }

    /// The secret of `id` and whom it stands for.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<(String, Arc<T>)> {
        self.0.read().get(id).cloned()
    }

    /// Ends every pair whose holder `gone` says is gone.
    pub fn revoke(&self, gone: impl Fn(&T) -> bool) {
        self.0.write().retain(|_, (_, who)| !gone(who));
    }
}

/// Sixteen characters of RFC 4648 base32 from the low 80 bits.
fn base32(bits: u128) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    (0..16)
        .map(|i| char::from(ALPHABET[(bits >> (5 * i)) as usize & 31]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_stands_for_its_holder_until_revoked() {
        let keys = InstanceKeys::default();
        let pair = keys.mint(7, 8, Arc::new("orders"));
        assert_eq!((pair.id.len(), pair.id.starts_with("ASIA")), (20, true));
        assert_eq!(
            keys.find(&pair.id).map(|(secret, who)| (secret, *who)),
            Some((pair.secret.clone(), "orders"))
        );
        assert!(!format!("{pair:?}").contains(&pair.secret));
        keys.revoke(|who| *who == "orders");
        assert!(keys.find(&pair.id).is_none());
    }
}
