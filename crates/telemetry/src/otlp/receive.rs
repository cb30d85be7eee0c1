//! OTLP in: the body of a POST to `/v1/traces`, as protobuf or JSON, compressed or not, and its answer.
//!
//! A span counts as of the workload that sent it, whatever it says of itself: only the sender's address is proof.
//! What nobody vouches for counts as of no workload, and keeps the name that its resource gives itself.

use std::{borrow::Cow, io::Read};

use flate2::bufread::MultiGzDecoder;
use model::{AppName, ByteSize, WorkloadName};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    resource::v1::Resource,
};
use prost::Message;

use super::convert::{from_proto, service_of};
use crate::{codec::Reader, options::OtlpEncoding, span::Span};

/// The largest body that is read, before and after decompression.
pub const BODY: ByteSize = ByteSize::mib(2);

/// Most spans in one body; SDKs send 512.
const SPANS: usize = 16_384;

/// Who sent spans, where that is known for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Its app.
    pub app: AppName,
    /// Its workload.
    pub workload: WorkloadName,
}

/// What came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Spans to record.
    pub spans: Vec<Span>,
    /// Spans without a valid identity; the sender is told.
    pub rejected: u64,
    /// How the body was written, and how the answer is.
    pub encoding: OtlpEncoding,
}

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// HTTP 415.
    #[error("expected `application/x-protobuf` or `application/json`, not `{0}`")]
    ContentType(String),
    /// HTTP 415.
    #[error("expected the content encoding `gzip` or none, not `{0}`")]
    Compression(String),
    /// HTTP 413.
    #[error("the body is larger than {BODY}, or has more than {SPANS} spans")]
    TooLarge,
    /// HTTP 400.
    #[error("the body is not an ExportTraceServiceRequest: {0}")]
    Malformed(String),
}

impl Refused {
    /// The HTTP status that says so.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::ContentType(_) | Self::Compression(_) => 415,
            Self::TooLarge => 413,
            Self::Malformed(_) => 400,
        }
    }
}

/// Reads the body of a POST to `/v1/traces`. `content_encoding` is the header of that name, empty when there is none.
///
/// # Errors
/// [`Refused`] says which HTTP status to answer.
pub fn receive(
    content_type: &str,
    content_encoding: &str,
    body: &[u8],
    sender: Option<&Sender>,
) -> Result<Received, Refused> {
    let encoding = encoding_of(content_type)?;
    if body.len() as u64 > BODY.0 {
        return Err(Refused::TooLarge);
    }
    let body = plain(content_encoding, body)?;
    let request = match encoding {
        OtlpEncoding::Protobuf => from_protobuf(&body)?,
        OtlpEncoding::Json => from_json(&body)?,
    };
    let mut received = Received {
        spans: Vec::new(),
        rejected: 0,
        encoding,
    };
    for of_service in request.resource_spans {
        let resource = of_service.resource.unwrap_or_default();
        for proto in of_service.scope_spans.into_iter().flat_map(|s| s.spans) {
            match from_proto(proto) {
                Some(span) => received.spans.push(of(span, sender, &resource)),
                None => received.rejected += 1,
            }
        }
    }
    Ok(received)
}

/// The body without its compression. Never makes more than one byte beyond [`BODY`], whatever the body promises.
fn plain<'b>(content_encoding: &str, body: &'b [u8]) -> Result<Cow<'b, [u8]>, Refused> {
    let encoding = content_encoding.trim();
    if encoding.is_empty() || encoding.eq_ignore_ascii_case("identity") {
        return Ok(Cow::Borrowed(body));
    }
    if !encoding.eq_ignore_ascii_case("gzip") {
        return Err(Refused::Compression(encoding.chars().take(80).collect()));
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(body)
        .take(BODY.0 + 1)
        .read_to_end(&mut plain)
        .map_err(|error| Refused::Malformed(error.to_string()))?;
    if plain.len() as u64 > BODY.0 {
        return Err(Refused::TooLarge);
    }
    Ok(Cow::Owned(plain))
}

/// The content type and the body of the answer to what was received (OTLP, "Partial Success").
#[must_use]
pub fn answer(received: &Received) -> (&'static str, Vec<u8>) {
    let partial = (received.rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: received.rejected.try_into().unwrap_or(i64::MAX),
        error_message: "a span needs a trace id of 16 bytes and an id of 8, not all zero"
            .to_owned(),
    });
    let response = ExportTraceServiceResponse {
        partial_success: partial,
    };
    match received.encoding {
        OtlpEncoding::Protobuf => ("application/x-protobuf", response.encode_to_vec()),
        OtlpEncoding::Json => {
            let json = match &response.partial_success {
                Some(partial) => serde_json::json!({"partialSuccess": partial}),
                None => serde_json::json!({}),
            };
            ("application/json", json.to_string().into_bytes())
        }
    }
}

fn encoding_of(content_type: &str) -> Result<OtlpEncoding, Refused> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-protobuf") {
        Ok(OtlpEncoding::Protobuf)
    } else if essence.eq_ignore_ascii_case("application/json") {
        Ok(OtlpEncoding::Json)
    } else {
        Err(Refused::ContentType(
            content_type.chars().take(80).collect(),
        ))
    }
}

fn from_protobuf(body: &[u8]) -> Result<ExportTraceServiceRequest, Refused> {
    let malformed = |error: prost::DecodeError| Refused::Malformed(error.to_string());
    // Empty messages cost two bytes here and hundreds once decoded: count before decoding.
    match count_spans(body) {
        Some(spans) if spans > SPANS => Err(Refused::TooLarge),
        _ => ExportTraceServiceRequest::decode(body).map_err(malformed),
    }
}

fn from_json(body: &[u8]) -> Result<ExportTraceServiceRequest, Refused> {
    let request: ExportTraceServiceRequest =
        serde_json::from_slice(body).map_err(|error| Refused::Malformed(error.to_string()))?;
    let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
    if scopes.map(|s| s.spans.len()).sum::<usize>() > SPANS {
        return Err(Refused::TooLarge);
    }
    Ok(request)
}

/// How many messages there are on the way to a span and as spans: `resource_spans` (1), `scope_spans` (2), `spans` (2).
fn count_spans(body: &[u8]) -> Option<usize> {
    let mut count = 0;
    for resource in messages(body, 1)? {
        for scope in messages(resource, 2)? {
            count += 1 + messages(scope, 2)?.len();
        }
        count += 1;
    }
    Some(count)
}

/// The length-delimited fields of number `wanted`.
fn messages(bytes: &[u8], wanted: u64) -> Option<Vec<&[u8]>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while !reader.is_empty() {
        let key = reader.varint()?;
        match key & 7 {
            0 => drop(reader.varint()?),
            1 => drop(reader.array::<8>()?),
            2 => {
                let bytes = reader.bytes()?;
                if key >> 3 == wanted {
                    found.push(bytes);
                }
            }
            5 => drop(reader.array::<4>()?),
            _ => return None,
        }
    }
    Some(found)
}

fn of(mut span: Span, sender: Option<&Sender>, resource: &Resource) -> Span {
    match sender {
        Some(sender) => {
            span.app = Some(sender.app.clone());
            span.workload = Some(sender.workload.clone());
        }
        None => {
            if let Some(name) = service_of(resource) {
                span.attributes.push("service.name", name);
            }
            // No span of the platform begins such a trace, so that its own root has to end it.
            span.local_root = span.parent.is_none();
        }
    }
    span
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use model::Name;
    use proptest::prelude::*;

    use super::*;
    use crate::{assembler::tests::span, otlp::convert::to_request};

    fn sender() -> Sender {
        Sender {
            app: Name::literal("shop"),
            workload: Name::literal("web"),
        }
    }

    #[test]
    fn protobuf_and_json_say_the_same() {
        let spans = [span(1, 2, Some(3)), span(1, 4, None)];
        let request = to_request(spans.iter());
        let json = serde_json::to_vec(&request).expect("serializes");
        let text = String::from_utf8(json.clone()).expect("is text");
        assert!(
            text.contains(r#""traceId":"00000000000000000000000000000001""#),
            "{text}"
        );
        assert!(
            text.contains(r#""startTimeUnixNano":"1000002000""#),
            "{text}"
        );
        let of_json = receive(
            "application/json; charset=utf-8",
            "",
            &json,
            Some(&sender()),
        )
        .expect("reads");
        let body = request.encode_to_vec();
        let of_protobuf =
            receive("application/x-protobuf", "identity", &body, Some(&sender())).expect("reads");
        assert_eq!(of_json.spans, of_protobuf.spans);
        assert_eq!(of_json.spans[0].service().as_deref(), Some("shop/web"));
        assert!(!of_json.spans[1].local_root);
        assert_eq!(answer(&of_json), ("application/json", b"{}".to_vec()));
        assert_eq!(answer(&of_protobuf), ("application/x-protobuf", vec![]));
    }

    #[test]
    fn what_nobody_vouches_for_keeps_its_own_name_and_ends_its_own_trace() {
        let spans = [span(1, 2, Some(3)), span(1, 3, None)];
        let body = to_request(spans.iter()).encode_to_vec();
        let received = receive("application/x-protobuf", "", &body, None).expect("reads");
        for span in &received.spans {
            assert_eq!(
                (span.service(), span.local_root),
                (None, span.parent.is_none())
            );
            assert_eq!(span.attributes.text("service.name"), Some("shop/web"));
        }
    }

    #[test]
    fn a_compressed_body_is_read_up_to_the_limit() {
        let spans = [span(1, 2, None)];
        let body = to_request(spans.iter()).encode_to_vec();
        let gzipped = |body: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(body).expect("is in memory");
            encoder.finish().expect("is in memory")
        };
        let kind = "application/x-protobuf";
        let received = receive(kind, "GZIP", &gzipped(&body), None).expect("reads");
        assert_eq!(received.spans.len(), 1);
        let refused = |encoding: &str, body: &[u8]| {
            receive(kind, encoding, body, None)
                .expect_err("is refused")
                .http_status()
        };
        let bomb = gzipped(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        assert_eq!(refused("gzip", &bomb), 413);
        assert_eq!(refused("gzip", &body), 400);
        assert_eq!(refused("gzip", &gzipped(&body)[..20]), 400);
        assert_eq!(refused("br", &body), 415);
    }

    #[test]
    fn spans_without_identity_are_rejected_and_said() {
        let json =
            br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00","spanId":"","name":"x",
            "startTimeUnixNano":"1","endTimeUnixNano":2}]}]}]}"#;
        let received = receive("application/json", "", json, None).expect("reads");
        assert_eq!((received.spans.len(), received.rejected), (0, 1));
        let (_, body) = answer(&received);
        assert!(String::from_utf8_lossy(&body).contains("rejectedSpans"));
    }

    #[test]
    fn what_is_too_large_or_no_request_is_refused() {
        let refused = |content_type, body: &[u8]| {
            receive(content_type, "", body, None)
                .expect_err("is refused")
                .http_status()
        };
        assert_eq!(refused("text/plain", b""), 415);
        assert_eq!(
            refused("application/x-protobuf", &vec![0; (2 << 20) + 1]),
            413
        );
        assert_eq!(refused("application/x-protobuf", b"\xff\xff"), 400);
        assert_eq!(refused("application/json", b"[1]"), 400);
        assert_eq!(
            refused("application/json", "[".repeat(100_000).as_bytes()),
            400
        );
        let mut spans = Vec::new();
        (0..20_000).for_each(|_| spans.extend([0x12, 0]));
        let field = |number: u8, inner: &[u8]| {
            let mut out = vec![number << 3 | 2];
            crate::codec::put_varint(&mut out, inner.len() as u64);
            out.extend_from_slice(inner);
            out
        };
        assert_eq!(
            refused("application/x-protobuf", &field(1, &field(2, &spans))),
            413
        );
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_panic(body: Vec<u8>) {
            let _ = receive("application/x-protobuf", "", &body, None);
            let _ = receive("application/x-protobuf", "gzip", &body, None);
            let _ = receive("application/json", "", &body, None);
        }
    }
}
