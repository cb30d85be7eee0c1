//! Secrets by name. They reach an instance's environment and nothing else: no log, no dump, no error message.

use std::{collections::BTreeMap, fmt};

/// Names and values.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Those of `wanted` that are not there.
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        wanted.into_iter().filter(|name| !self.0.contains_key(*name)).cloned().collect()
    }
}

impl FromIterator<(String, String)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
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

    #[test]
    fn values_are_never_printed() {
        let secrets: Secrets = [("SMTP_PASSWORD".to_owned(), "hunter2".to_owned())].into_iter().collect();
        assert_eq!(secrets.get("SMTP_PASSWORD"), Some("hunter2"));
        assert_eq!(format!("{secrets:?}"), r#"{"SMTP_PASSWORD"}"#);
        assert_eq!(secrets.missing(&["A".to_owned()]), ["A"]);
    }
}
