//! Secrets by name. They reach an instance's environment and nothing else: no log, no dump, no error message.
//!
//! Where they are read from is not decided here, nor when again. The memory of a value is overwritten when it is
//! replaced or the last handle goes.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use parking_lot::RwLock;
use zeroize::Zeroizing;

/// Shorter values are not looked for in texts: they would hide too much else.
const SHORTEST: usize = 4;

/// Names and values. Cheap to clone: all clones share one copy of the values, and see when it is replaced.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<Values>>);

type Values = BTreeMap<String, Zeroizing<String>>;

impl Secrets {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Zeroizing<String>> {
        self.0.read().get(name).cloned()
    }

    /// From now on these are the secrets: who starts later gets these values.
    pub fn replace(&self, pairs: impl IntoIterator<Item = (String, String)>) {
        *self.0.write() = values(pairs);
    }

    /// Those of `wanted` that are not there.
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        let known = self.0.read();
        let absent = wanted.into_iter().filter(|name| !known.contains_key(*name));
        absent.cloned().collect()
    }

    /// `text` with `[NAME]` for every value in it that has at least four bytes.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let known = self.0.read();
        let mut found: Vec<(&String, &str)> = known.iter().map(|(n, v)| (n, v.as_str())).collect();
        found.retain(|(_, value)| value.len() >= SHORTEST && text.contains(value));
        // A value may be part of a longer one: the longer goes first.
        found.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        let hide = |text: Cow<'t, str>, (name, value): &(&String, &str)| {
            Cow::Owned(text.replace(value, &format!("[{name}]")))
        };
        found.iter().fold(Cow::Borrowed(text), hide)
    }
}

impl FromIterator<(String, String)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(Arc::new(RwLock::new(values(pairs))))
    }
}

fn values(pairs: impl IntoIterator<Item = (String, String)>) -> Values {
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, value)| (name, Zeroizing::new(value)))
        .collect()
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.read().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(pairs: &[(&str, &str)]) -> Secrets {
        let own = |text: &str| text.to_owned();
        pairs
            .iter()
            .map(|(name, value)| (own(name), own(value)))
            .collect()
    }

    #[test]
    fn values_are_never_printed() {
        let secrets = secrets(&[("SMTP_PASSWORD", "hunter2")]);
        let value = secrets.get("SMTP_PASSWORD");
        assert_eq!(value.as_deref().map(String::as_str), Some("hunter2"));
        assert_eq!(format!("{secrets:?}"), r#"{"SMTP_PASSWORD"}"#);
        assert_eq!(secrets.missing(&["A".to_owned()]), ["A"]);
    }

    #[test]
    fn what_is_replaced_is_replaced_for_all_clones() {
        let secrets = secrets(&[("A", "one"), ("B", "two")]);
        let clone = secrets.clone();
        secrets.replace([("A".to_owned(), "three".to_owned())]);
        assert_eq!(clone.get("A").as_deref().map(String::as_str), Some("three"));
        assert!(clone.get("B").is_none());
    }

    #[test]
    fn texts_lose_values_and_keep_the_rest() {
        let secrets = secrets(&[("A", "hunter2"), ("B", "hunter2-and-more"), ("PIN", "123")]);
        let hidden = secrets.redact("login hunter2, hunter2-and-more, 123");
        assert_eq!(hidden, "login [A], [B], 123");
        assert!(matches!(secrets.redact("nothing here"), Cow::Borrowed(_)));
    }
}
