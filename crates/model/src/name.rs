//! Names that users give: checked once, at the edge, and trusted afterwards.
//!
//! A name is 1 to 63 bytes of `a-z`, `0-9` and `-`, begins with a letter and does not end with `-`
//! (RFC 1123 labels), so that it can stand in a host name, a path, an environment variable and a file name.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name, in bytes (RFC 1123).
pub const MAX_NAME: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a name: {reason}")]
pub struct InvalidName {
    /// What was given, cut to 80 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A checked name; cloning it costs a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The name of an app: what one `tangelo.yaml` describes.
pub type AppName = Name;
/// The name of a workload inside its app.
pub type WorkloadName = Name;
/// Where names live; `default` unless said.
pub type Namespace = Name;

impl Name {
    /// The text itself, shared: nothing is copied.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Checks `text`.
    ///
    /// # Errors
    /// [`InvalidName`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        match broken_rule(text) {
            None => Ok(Self(Arc::from(text))),
            Some(reason) => Err(InvalidName {
                text: text.chars().take(80).collect(),
                reason,
            }),
        }
    }

    /// A name that is known at compile time to be good.
    ///
    /// # Panics
    /// When it is not: only for literals.
    #[must_use]
    pub fn literal(text: &'static str) -> Self {
        Self::new(text).expect("a literal name is checked by its author")
    }

    /// The namespace of everything that says no other.
    #[must_use]
    pub fn default_namespace() -> Namespace {
        Self::literal("default")
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in capitals with `_` for `-`, as environment variables have it (`ORDERS_URL`).
    #[must_use]
    pub fn to_env(&self) -> String {
        self.0.to_ascii_uppercase().replace('-', "_")
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > MAX_NAME {
        return Some("it is longer than 63 characters");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Some("it may hold only a-z, 0-9 and `-`");
    }
    if !text.as_bytes()[0].is_ascii_lowercase() {
        return Some("it must begin with a letter");
    }
    text.ends_with('-').then_some("it must not end with `-`")
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_rfc_1123_labels() {
        for good in ["a", "orders", "order-events-2", &"a".repeat(63)] {
            assert_eq!(
                Name::new(good).map(|n| n.as_str().to_owned()),
                Ok(good.to_owned())
            );
        }
        for bad in [
            "",
            "Orders",
            "1st",
            "a_b",
            "a-",
            "-a",
            "a.b",
            "ä",
            &"a".repeat(64),
        ] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn environment_form_is_upper_case() {
        assert_eq!(Name::literal("order-events").to_env(), "ORDER_EVENTS");
    }
}
