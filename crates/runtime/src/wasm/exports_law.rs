//! What holds for all bytes that are read as a component: what is inside of it neither hides an export nor adds one.
//!
//! Called by the fuzz target (`cargo xtask fuzz components`) and by a test that replays the corpus.

use wasmparser::{Parser, Payload};

use super::exports::exported;

/// Skipping what is inside finds what reading all of it finds, and more only where that came to a fault.
///
/// # Panics
/// When it does not hold.
pub(crate) fn law(bytes: &[u8]) {
    let skipping = exported(bytes);
    let (descending, whole) = descended(bytes);
    if whole {
        assert_eq!(skipping, descending);
    } else {
        assert!(
            skipping.starts_with(&descending),
            "{skipping:?} does not begin with {descending:?}"
        );
    }
    let carried: usize = skipping.iter().map(|name| name.len()).sum();
    assert!(carried <= bytes.len(), "more came out than went in");
}

/// The exports of the outermost component, found on a way through all that it contains, and whether that came to its end.
fn descended(bytes: &[u8]) -> (Vec<&str>, bool) {
    let (mut names, mut depth) = (Vec::new(), 0_usize);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) if depth == 0 => return (names, true),
            Ok(Payload::End(_)) => depth -= 1,
            Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                let exports = section.into_iter().map_while(Result::ok);
                names.extend(exports.map(|export| export.name.name));
            }
            Ok(_) => {}
            Err(_) => return (names, false),
        }
    }
    (names, false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::exports::tests::component, *};

    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("components", law);
    }

    #[test]
    fn real_components_keep_the_law() {
        for guest in ["behaviours", "preview3"] {
            let bytes = testkit::component(guest);
            law(&bytes);
            assert!(!exported(&bytes).is_empty(), "{guest}");
        }
    }

    proptest! {
        #[test]
        fn components_with_anything_after_them_keep_the_law(
            tail in proptest::collection::vec(any::<u8>(), 0..256),
            cut in 0..64_usize,
        ) {
            let mut bytes = component(&["inner"], &["own"]);
            law(&bytes[..cut.min(bytes.len())]);
            bytes.extend(&tail);
            law(&bytes);
            law(&tail);
        }
    }
}
