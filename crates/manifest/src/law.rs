//! What holds for every text that is read as a manifest, as a function that the fuzz target calls (`cargo xtask fuzz`) and
//! a test replays the corpus with. Not for anything else: it panics when the law does not hold.

use model::{App, Limits};

use crate::{FILE_NAME, MAX_DIAGNOSTICS, parse, render};

/// There is an app or an error, never both and never neither; what is said points into the text and is bounded; an app
/// comes back the same from the store's format; and reading twice says the same.
///
/// # Panics
/// When it does not hold.
pub fn law(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let limits = Limits::default();
    let parsed = parse(text, FILE_NAME, &limits);
    assert_eq!(parsed.app.is_some(), !parsed.has_errors());
    assert!(parsed.diagnostics.len() <= MAX_DIAGNOSTICS);
    for diagnostic in &parsed.diagnostics {
        let span = &diagnostic.span;
        assert!(
            span.start <= span.end && span.end <= text.len(),
            "{diagnostic:?}"
        );
        assert!(text.get(span.start..span.end).is_some(), "{diagnostic:?}");
        assert!(span.line >= 1 && span.column >= 1, "{diagnostic:?}");
        assert!(!diagnostic.message.contains('\n'), "{diagnostic:?}");
    }
    let shown = render(&parsed.diagnostics, text, FILE_NAME);
    assert_eq!(shown.is_empty(), parsed.diagnostics.is_empty());
    if let Some(app) = &parsed.app {
        let stored = serde_json::to_string(app).expect("an app is JSON");
        let stored: App = serde_json::from_str(&stored).expect("it was stored");
        assert_eq!(&stored, app, "the store's format loses something");
    }
    let again = parse(text, FILE_NAME, &limits);
    assert_eq!(again.app, parsed.app);
    assert_eq!(again.diagnostics.len(), parsed.diagnostics.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("manifest", law);
    }
}
