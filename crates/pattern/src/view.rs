//! How an event looks to a pattern.

use model::Event;
use serde_json::Value;

/// The JSON format of a CloudEvent (v1.0.2, JSON Event Format): `type`, `source`, `subject`, `id`, `time`, …, extensions
/// beside them, and `data`. Binary data is visible only as the text `data_base64`.
#[must_use]
pub fn event_view(event: &Event) -> Value {
    event.to_json()
}
