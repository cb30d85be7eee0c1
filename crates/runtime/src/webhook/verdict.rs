//! What an endpoint's answer means for a delivery. Pure.
//!
//! A status settles it (Standard Webhooks 1.0.0, "Deliverability and Reliability"); redirects are not followed, since
//! whoever may answer may not say where signed events go.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use model::Time;

/// The longest that an endpoint may ask to be left alone.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// In the extensions of a webhook's answer: what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx: it has it.
    Taken,
    /// It asks for it later: 429 or 503 with `Retry-After`.
    Later(Duration),
    /// 410: it wants no more, ever.
    Gone,
    /// It does not take this one, and is well.
    Refused,
    /// Anything else.
    Failed,
}

impl Verdict {
    /// Of an answer that came at `now`.
    #[must_use]
    pub fn of(status: StatusCode, headers: &HeaderMap, now: Time) -> Self {
        match status {
            status if status.is_success() => Self::Taken,
            StatusCode::GONE => Self::Gone,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                retry_after(headers, now).map_or(Self::Failed, Self::Later)
            }
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// Seconds or a date (RFC 9110, section 10.2.3), an hour at most.
fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are an hour, too.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        Time::parse_http_date(text)?.since(now)
    };
    Some(wait.min(LONGEST_WAIT))
}

/// Holds any `Retry-After` to its law: whatever an endpoint writes, it is left alone for an hour at most.
///
/// # Panics
/// When it is not.
#[doc(hidden)]
pub fn law(bytes: &[u8]) {
    let Ok(value) = http::HeaderValue::from_bytes(bytes) else {
        return;
    };
    let headers = HeaderMap::from_iter([(RETRY_AFTER, value)]);
    for now in [Time(0), Time::from_millis(1_790_000_000_000)] {
        let verdict = Verdict::of(StatusCode::SERVICE_UNAVAILABLE, &headers, now);
        match verdict {
            Verdict::Later(wait) => assert!(wait <= LONGEST_WAIT),
            other => assert_eq!(other, Verdict::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_convention_says() {
        let now = Time::from_millis(784_111_777_000);
        let check = |status: u16, asked: Option<&'static str>, expected| {
            let asked = asked.map(|text| (RETRY_AFTER, http::HeaderValue::from_static(text)));
            let headers = HeaderMap::from_iter(asked);
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Verdict::of(status, &headers, now), expected, "{status}");
        };
        let seconds = |n| Verdict::Later(Duration::from_secs(n));
        check(200, None, Verdict::Taken);
        check(204, None, Verdict::Taken);
        check(301, None, Verdict::Failed);
        check(410, None, Verdict::Gone);
        check(404, None, Verdict::Failed);
        check(422, None, Verdict::Refused);
        check(500, Some("5"), Verdict::Failed);
        check(429, None, Verdict::Failed);
        check(429, Some("5"), seconds(5));
        check(503, Some(" 0 "), seconds(0));
        check(
            503,
            Some("99999999999999999999"),
            Verdict::Later(LONGEST_WAIT),
        );
        check(503, Some("soon"), Verdict::Failed);
        check(503, Some("Sun, 06 Nov 1994 08:50:37 GMT"), seconds(60));
        check(503, Some("Sun, 06 Nov 1994 08:48:37 GMT"), seconds(0));
    }

    #[test]
    fn the_corpus_keeps_the_law() {
        testkit::replay("webhooks", law);
    }
}
