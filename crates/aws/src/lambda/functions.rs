//! GetFunction, GetFunctionConfiguration and ListFunctions.

use http::{Response, StatusCode};
use model::{Run, Tier, app::LambdaRuntime};
use percent_encoding::percent_decode_str;
use platform::{Body, Platform, dispatch::Callee};
use serde_json::{Value, json};

use super::names;
use crate::{
    fault::{Fault, json_response},
    identity::Identity,
};

/// Most functions in one answer, as AWS has it.
const PAGE: usize = 50;

pub(super) fn get(
    platform: &Platform,
    identity: &Identity,
    name: &str,
) -> Result<Response<Body>, Fault> {
    let callee = names::resolve(platform, identity, name)?;
    let body = json!({"Configuration": describe(&callee), "Code": {"RepositoryType": "Tangelo"}, "Tags": {}});
    Ok(json_response(StatusCode::OK, &body))
}

pub(super) fn configuration(
    platform: &Platform,
    identity: &Identity,
    name: &str,
) -> Result<Response<Body>, Fault> {
    let callee = names::resolve(platform, identity, name)?;
    Ok(json_response(StatusCode::OK, &describe(&callee)))
}

pub(super) fn list(platform: &Platform, query: Option<&str>) -> Result<Response<Body>, Fault> {
    let ask = read_query(query.unwrap_or_default())?;
    let live = platform.apps().live();
    let mut all: Vec<_> = live
        .apps
        .iter()
        .flat_map(|app| app.callees.values())
        .filter(|c| c.tier() == Tier::Function)
        .collect();
    all.sort_by_key(|callee| names::function_name(callee));
    let after = |callee: &&&std::sync::Arc<Callee>| {
        ask.marker
            .as_ref()
            .is_none_or(|marker| names::function_name(callee) > *marker)
    };
    let rest: Vec<_> = all.iter().filter(after).collect();
    let page: Vec<Value> = rest
        .iter()
        .take(ask.max_items)
        .map(|callee| describe(callee))
        .collect();
    let next = rest
        .get(ask.max_items.wrapping_sub(1))
        .filter(|_| rest.len() > ask.max_items)
        .map(|last| names::function_name(last));
    Ok(json_response(
        StatusCode::OK,
        &json!({"Functions": page, "NextMarker": next}),
    ))
}

struct ListAsk {
    marker: Option<String>,
    max_items: usize,
}

fn read_query(query: &str) -> Result<ListAsk, Fault> {
    let mut ask = ListAsk {
        marker: None,
        max_items: PAGE,
    };
    for (name, value) in query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    {
        let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
        match name {
            "Marker" => ask.marker = Some(value),
            "MaxItems" => {
                let wrong = || {
                    Fault::new(
                        400,
                        "InvalidParameterValueException",
                        format!("MaxItems is `{value}`, not a number from 1 to 10000"),
                    )
                };
                ask.max_items = value
                    .parse()
                    .ok()
                    .filter(|n: &usize| (1..=10_000).contains(n))
                    .ok_or_else(wrong)?
                    .min(PAGE);
            }
            "FunctionVersion" | "MasterRegion" => {
                let message = format!(
                    "parameter `{name}` is not supported: there are no versions of functions yet"
                );
                return Err(Fault::new(400, "InvalidParameterValueException", message));
            }
            other => {
                let message = format!(
                    "ListFunctions has no parameter `{}`",
                    other.escape_default()
                );
                return Err(Fault::new(400, "InvalidParameterValueException", message));
            }
        }
    }
    Ok(ask)
}

fn describe(callee: &Callee) -> Value {
    let workload = &callee.workload;
    let mut row = json!({
        "FunctionName": names::function_name(callee),
        "FunctionArn": names::arn(callee),
        "Timeout": workload.timeout.as_secs().max(1),
        "MemorySize": workload.memory.0 >> 20,
        "Version": "$LATEST",
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": [if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }],
        "Environment": {"Variables": workload.env},
        "RevisionId": callee.version.short(),
        "TracingConfig": {"Mode": "Active"},
    });
    if let Run::Lambda {
        runtime, handler, ..
    } = &workload.run
    {
        row["Handler"] = handler.as_str().into();
        // What it runs on, of which a manifest only says the language.
        let found = callee.pool().execution_env();
        let found = found.and_then(|name| name.strip_prefix("AWS_Lambda_"));
        row["Runtime"] = match runtime {
            LambdaRuntime::Python3 => found.unwrap_or("python3"),
            LambdaRuntime::Nodejs => found.unwrap_or("nodejs"),
            LambdaRuntime::Provided => "provided.al2023",
        }
        .into();
    }
    row
}
