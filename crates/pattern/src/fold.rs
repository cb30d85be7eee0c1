//! Texts compared whatever their case, a character at a time as EventBridge does: a character of the pattern stands for
//! its lower-case and its upper-case form, whatever length these have.

/// A text of a pattern whose case does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folded {
    pub(crate) text: String,
    /// What every text that equals it is brought to by [`fold`].
    pub(crate) key: String,
}

impl Folded {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            key: fold(text),
        }
    }

    pub(crate) fn equals(&self, text: &str) -> bool {
        self.rest_after(text).is_some_and(str::is_empty)
    }

    pub(crate) fn begins(&self, text: &str) -> bool {
        self.rest_after(text).is_some()
    }

    pub(crate) fn ends(&self, text: &str) -> bool {
        let mut rest = text;
        for c in self.text.chars().rev() {
            let lower: String = c.to_lowercase().collect();
            let upper: String = c.to_uppercase().collect();
            let Some(before) = rest
                .strip_suffix(lower.as_str())
                .or_else(|| rest.strip_suffix(upper.as_str()))
            else {
                return false;
            };
            rest = before;
        }
        true
    }

    fn rest_after<'t>(&self, text: &'t str) -> Option<&'t str> {
        let mut rest = text;
        for c in self.text.chars() {
            let lower: String = c.to_lowercase().collect();
            let upper: String = c.to_uppercase().collect();
            rest = rest
                .strip_prefix(lower.as_str())
                .or_else(|| rest.strip_prefix(upper.as_str()))?;
        }
        Some(rest)
    }
}

/// One form for all cases of a text, to look it up by: texts that equal each other have one; not the other way round.
pub(crate) fn fold(text: &str) -> String {
    text.chars()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_equals_folds_alike() {
        for c in (0..=0x1_FFFF).filter_map(char::from_u32) {
            let folded = Folded::new(&c.to_string());
            for form in [
                c.to_lowercase().collect::<String>(),
                c.to_uppercase().collect(),
            ] {
                assert!(folded.equals(&form) && folded.begins(&form) && folded.ends(&form));
                assert_eq!(fold(&form), folded.key, "{c:?} as {form:?}");
            }
        }
    }

    #[test]
    fn lengths_may_differ() {
        assert!(Folded::new("stra\u{df}e").equals("STRASSE"));
        assert!(Folded::new("\u{df}").ends("gruSS"));
        assert!(!Folded::new("abc").begins("ab"));
    }
}
