//! Secrets by name. They reach an instance's environment and nothing else: no log, no dump, no error message.
//!
//! Where they are read from is not decided here. The memory of a value is overwritten when the last handle goes.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use zeroize::Zeroizing;

/// Shorter values are not looked for in texts: they would hide too much else.
const SHORTEST: usize = 4;

/// Names and values. Cheap to clone: all clones share one copy of the values.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<String, Zeroizing<String>>>);

impl Secrets {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }

    /// Those of `wanted` that are not there.
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        let absent = wanted
            .into_iter()
            .filter(|name| !self.0.contains_key(*name));
        absent.cloned().collect()
    }

    /// `text` with `[NAME]` for every value in it that has at least four bytes.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut found: Vec<(&String, &str)> = self.0.iter().map(|(n, v)| (n, v.as_str())).collect();
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
        let pairs = pairs
            .into_iter()
            .map(|(name, value)| (name, Zeroizing::new(value)));
        Self(Arc::new(pairs.collect()))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
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
        assert_eq!(secrets.get("SMTP_PASSWORD"), Some("hunter2"));
        assert_eq!(format!("{secrets:?}"), r#"{"SMTP_PASSWORD"}"#);
        assert_eq!(secrets.missing(&["A".to_owned()]), ["A"]);
    }

    #[test]
    fn texts_lose_values_and_keep_the_rest() {
        let secrets = secrets(&[("A", "hunter2"), ("B", "hunter2-and-more"), ("PIN", "123")]);
        let hidden = secrets.redact("login hunter2, hunter2-and-more, 123");
        assert_eq!(hidden, "login [A], [B], 123");
        assert!(matches!(secrets.redact("nothing here"), Cow::Borrowed(_)));
    }
}
