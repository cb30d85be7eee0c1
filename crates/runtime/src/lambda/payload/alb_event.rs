//! An HTTP request as an Application Load Balancer hands it to a handler
//! (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html>).
//!
//! Pure. With multi-value headers on, headers and parameters are lists; without, the last value of each counts, and a
//! handler does not see the others: as there.

use std::{borrow::Cow, collections::BTreeMap};

use http::request::Parts;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    ACCOUNT, REGION,
    request::{Facts, added, encoded, is_text, query_pairs, text},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    request_context: Context,
    http_method: &'a str,
    path: &'a str,
    #[serde(flatten)]
    fields: Fields<'a>,
    body: Cow<'a, str>,
    is_base64_encoded: bool,
}

/// Headers and query, in one of two shapes.
#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    #[serde(rename_all = "camelCase")]
    Single {
        query_string_parameters: BTreeMap<&'a str, &'a str>,
        headers: BTreeMap<&'a str, &'a str>,
    },
    #[serde(rename_all = "camelCase")]
    Multi {
        multi_value_query_string_parameters: Lists<'a, &'a str>,
        multi_value_headers: Lists<'a, Cow<'a, str>>,
    },
}

type Lists<'a, T> = BTreeMap<&'a str, Vec<T>>;

#[derive(Serialize)]
struct Context {
    elb: Balancer,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Balancer {
    target_group_arn: String,
}

/// The event for a request with these parts and this whole body, as JSON; `multi` with multi-value headers on.
#[must_use]
pub fn event(parts: &Parts, body: &[u8], facts: &Facts<'_>, multi: bool) -> Vec<u8> {
    // Neither names nor values are decoded: a load balancer leaves that to the handler.
    let mut query: Lists<'_, &str> = BTreeMap::new();
    for (name, value) in query_pairs(parts.uri.query().unwrap_or_default()) {
        query.entry(name).or_default().push(value);
    }
    let headers = headers(parts, facts);
    let fields = if multi {
        Fields::Multi {
            multi_value_query_string_parameters: query,
            multi_value_headers: headers,
        }
    } else {
        Fields::Single {
            query_string_parameters: last(&query),
            headers: last(&headers),
        }
    };
    let (body, is_base64_encoded) = match body {
        [] => (Cow::Borrowed(""), false),
        body => encoded(body, is_text(&parts.headers, |_| false)),
    };
    let event = Event {
        request_context: Context {
            elb: Balancer {
                target_group_arn: target_group_arn(facts.function),
            },
        },
        http_method: parts.method.as_str(),
        path: parts.uri.path(),
        fields,
        body,
        is_base64_encoded,
    };
    serde_json::to_vec(&event).expect("texts and maps with text keys are JSON")
}

fn headers<'a>(parts: &'a Parts, facts: &Facts<'_>) -> Lists<'a, Cow<'a, str>> {
    let mut all: Lists<'a, Cow<'a, str>> = BTreeMap::new();
    for (name, value) in &parts.headers {
        all.entry(name.as_str()).or_default().push(text(value));
    }
    for (name, value) in added(parts, facts) {
        all.entry(name).or_default().push(Cow::Owned(value));
    }
    all
}

fn last<'a, T: AsRef<str>>(lists: &'a Lists<'a, T>) -> BTreeMap<&'a str, &'a str> {
    let last = lists.iter().filter_map(|(name, values)| {
        let value = values.last()?;
        Some((*name, value.as_ref()))
    });
    last.collect()
}

/// The ARN of the target group that the function would be in; no `_` is in the name of one.
fn target_group_arn(function: &str) -> String {
    let name: String = function.replace('_', "-").chars().take(32).collect();
    let id = hex::encode(&Sha256::digest(function)[..8]);
    format!("arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:targetgroup/{name}/{id}")
}

#[cfg(test)]
#[path = "alb_event_tests.rs"]
mod tests;
