//! What holds for every input of this crate's parsers, as functions that fuzz targets call (`cargo xtask fuzz`) and tests
//! replay the corpus with. Not for anything else: each panics when its law does not hold.

use serde_json::Value;

use crate::{
    event::{Event, MAX_ATTRIBUTE},
    trace::{SpanId, TraceContext, TraceId},
};

/// A CloudEvent that was read is one, is bounded, and comes back the same from the JSON format and from the store's.
///
/// # Panics
/// When it does not.
pub fn cloudevents(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let Ok(event) = Event::from_json(value.clone()) else {
        return;
    };
    assert!(event.check().is_ok(), "what was read passes the check");
    for (name, text) in [
        ("id", &event.id),
        ("source", &event.source),
        ("type", &event.kind),
    ] {
        assert!(!text.is_empty() && text.len() <= MAX_ATTRIBUTE, "{name}");
        assert_eq!(
            value[name].as_str(),
            Some(text.as_str()),
            "{name} is as it came"
        );
    }
    let again = Event::from_json(event.to_json());
    assert_eq!(
        again.as_ref(),
        Ok(&event),
        "the JSON format loses something"
    );
    let stored = serde_json::to_string(&event).expect("an event is JSON");
    let stored: Event = serde_json::from_str(&stored).expect("it was stored");
    assert_eq!(stored, event, "the store's format loses something");
}

/// A trace header that was read says the same when it is passed on, in both forms, and holds nothing of the client's text.
///
/// # Panics
/// When it does not.
pub fn traces(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let w3c = TraceContext::from_traceparent(text);
    if let Some(read) = w3c {
        // A second reading, by the places that the specification gives (Trace Context §3.2.2).
        assert_eq!(text[3..35].parse(), Ok(read.trace));
        assert_eq!(
            read.parent.map(|span| span.to_string()).as_deref(),
            Some(&text[36..52])
        );
        assert_eq!(
            u8::from_str_radix(&text[53..55], 16).map(|f| f & 1 == 1),
            Ok(read.sampled)
        );
        assert!(read.parent.is_some(), "a traceparent has a parent");
    }
    for read in w3c.into_iter().chain(TraceContext::from_xray(text)) {
        assert_ne!(read.trace, TraceId(0));
        assert_ne!(read.parent, Some(SpanId(0)));
        let span = SpanId(0x00f0_67aa_0ba9_02b7);
        let passed_on = (read.traceparent(span), read.xray(span));
        let clean = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-=;".contains(&b))
        };
        assert!(clean(&passed_on.0) && clean(&passed_on.1), "{passed_on:?}");
        let below = Some(read.below(span));
        assert_eq!(TraceContext::from_traceparent(&passed_on.0), below);
        assert_eq!(TraceContext::from_xray(&passed_on.1), below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_cloudevents_keeps_the_law() {
        testkit::replay("cloudevents", cloudevents);
    }

    #[test]
    fn the_corpus_of_traces_keeps_the_law() {
        testkit::replay("traces", traces);
    }
}
