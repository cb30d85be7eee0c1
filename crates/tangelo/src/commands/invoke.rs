//! `tangelo invoke`: call a workload by hand, with JSON or as an HTTP request.

use std::{collections::BTreeMap, io::Write, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use http_body_util::BodyExt;
use model::code;
use platform::direct::{Ask, HttpAsk};
use serde_json::{Value, json};

use super::Cli;
use crate::{client::Client, failure::Coded, show};

/// Invoke a workload
#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The workload: `name`, or `app/name` where several apps have one of that name
    workload: String,
    /// The payload: JSON, `@FILE`, or `-` for standard input
    #[arg(short = 'd', long, default_value = "{}", value_name = "JSON")]
    payload: String,
    /// Send an HTTP request with this path instead of a payload
    #[arg(long, value_name = "PATH")]
    http: Option<String>,
    /// The method of the HTTP request
    #[arg(
        short = 'X',
        long,
        default_value = "GET",
        requires = "http",
        value_name = "METHOD"
    )]
    method: String,
    /// A header of the HTTP request, `Name: value`
    #[arg(short = 'H', long = "header", requires = "http", value_name = "HEADER")]
    headers: Vec<String>,
    /// Commit the invocation and print its id instead of waiting for its answer
    #[arg(long = "async", conflicts_with = "http")]
    deferred: bool,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Invoke) -> Result<ExitCode> {
    let data = read(&ask.payload)?;
    let http = ask
        .http
        .as_ref()
        .map(|path| http_ask(ask, path, &data))
        .transpose()?;
    let payload = match &http {
        Some(_) => None,
        None => Some(json_of("--payload", &data)?),
    };
    let body = Ask {
        workload: ask.workload.clone(),
        payload,
        http,
        deferred: ask.deferred,
    };
    let response = client
        .send(
            http::Method::POST,
            "/v1/invoke",
            serde_json::to_vec(&body)?.into(),
        )
        .await?;
    let (head, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    };
    let status = header("x-tangelo-status")
        .and_then(|s| s.parse::<u16>().ok())
        .unwrap_or(200);
    let error = header("x-tangelo-function-error");
    if cli.json {
        let text = String::from_utf8_lossy(&bytes);
        let body = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        show::json(
            &json!({"status": status, "function_error": error, "trace": header("x-tangelo-trace"), "body": body}),
        )?;
    } else {
        std::io::stdout().write_all(&bytes)?;
        anstream::println!();
        if let Some(trace) = header("x-tangelo-trace") {
            anstream::eprintln!("status {status}, trace {trace}");
        }
    }
    Ok(if error.is_none() && status < 500 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// JSON, `@FILE`, or `-` for standard input.
pub(crate) fn read(data: &str) -> Result<String> {
    match data.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {file}")),
        None if data == "-" => Ok(std::io::read_to_string(std::io::stdin())?),
        None => Ok(data.to_owned()),
    }
}

/// The JSON of an argument.
///
/// # Errors
/// `BAD_ARGUMENT` with the place at which it is none.
pub(crate) fn json_of(argument: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).coded(code::BAD_ARGUMENT, || {
        let quotes = match text.trim_start().starts_with(['{', '[', '"']) {
            true => "",
            false => ": a text wants quotes of its own, as '\"text\"'",
        };
        format!("{argument} is not JSON{quotes}")
    })
}

fn http_ask(ask: &Invoke, path: &str, data: &str) -> Result<HttpAsk> {
    let mut headers = BTreeMap::new();
    for header in &ask.headers {
        let Some((name, value)) = header.split_once(':') else {
            fail!(
                BAD_ARGUMENT,
                "`{header}` is no header: expected `Name: value`"
            )
        };
        headers.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    // `{}` is the default of --payload, which an HTTP request does not have.
    let body = if data == "{}" {
        String::new()
    } else {
        data.to_owned()
    };
    Ok(HttpAsk {
        method: ask.method.clone(),
        path: path.to_owned(),
        headers,
        body,
    })
}
