//! `tangelo kv`: what workloads keep under keys.

use std::{io::Read, io::Write, process::ExitCode};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::{HeaderName, Method, header};
use http_body_util::BodyExt;
use model::code;
use serde_json::{Value, json};

use super::Cli;
use crate::{
    client::{Client, query, segment},
    failure::Coded,
    show,
};

/// Look at buckets, and read and write what workloads keep in them
#[derive(Debug, Args)]
pub(crate) struct Kv {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List buckets with what they hold
    Buckets {
        /// Only of this app
        #[arg(long)]
        app: Option<String>,
    },
    /// List keys
    List {
        /// The bucket: `name`, or `app/name` where several apps have one of that name
        bucket: String,
        /// Only keys that begin with this
        #[arg(long)]
        prefix: Option<String>,
        /// Only keys behind this one
        #[arg(long, value_name = "KEY")]
        after: Option<String>,
        /// At most this many
        #[arg(short = 'n', long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Print the value under a key
    Get {
        /// The bucket
        bucket: String,
        /// The key
        key: String,
    },
    /// Put a value under a key
    Put {
        /// The bucket
        bucket: String,
        /// The key
        key: String,
        /// The value: a text, `@FILE`, or `-` for standard input
        value: String,
        #[command(flatten)]
        only: Only,
        /// Only if nothing is there
        #[arg(long, conflicts_with = "etag")]
        if_absent: bool,
    },
    /// Delete a key
    Delete {
        /// The bucket
        bucket: String,
        /// The key
        key: String,
        #[command(flatten)]
        only: Only,
    },
    /// Add to a whole number and print the sum
    Increment {
        /// The bucket
        bucket: String,
        /// The key
        key: String,
        /// What to add
        #[arg(default_value = "1", allow_hyphen_values = true)]
        by: i64,
    },
}

#[derive(Debug, Args)]
struct Only {
    /// Only if the value is still the one with this ETag (`*`: any)
    #[arg(long = "if-match", value_name = "ETAG")]
    etag: Option<String>,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Kv) -> Result<ExitCode> {
    match &ask.command {
        Action::Buckets { app } => buckets(cli, client, app.clone()).await?,
        Action::List {
            bucket,
            prefix,
            after,
            limit,
        } => {
            let path = place(client, bucket, None).await?;
            let asked = [
                ("prefix", prefix.clone()),
                ("after", after.clone()),
                ("limit", Some(limit.to_string())),
            ];
            let answer = client.get(&format!("{path}{}", query(&asked))).await?;
            keys(cli, &answer)?;
        }
        Action::Get { bucket, key } => get(cli, client, bucket, key).await?,
        Action::Put {
            bucket,
            key,
            value,
            only,
            if_absent,
        } => {
            let value = read(value)?;
            let mut condition = only.header();
            if *if_absent {
                condition = Some((header::IF_NONE_MATCH, "*".to_owned()));
            }
            let path = place(client, bucket, Some(key)).await?;
            let put = client.send_with(Method::PUT, &path, condition, value);
            let etag = etag(&put.await?);
            written(cli, &json!({"key": key, "etag": etag}), "written")?;
        }
        Action::Delete { bucket, key, only } => {
            let path = place(client, bucket, Some(key)).await?;
            let delete = client.send_with(Method::DELETE, &path, only.header(), Bytes::new());
            delete.await?;
            written(cli, &json!({"key": key, "deleted": true}), "deleted")?;
        }
        Action::Increment { bucket, key, by } => {
            let path = place(client, bucket, Some(key)).await?;
            let path = format!("{path}?increment={by}");
            let answer = client.send(Method::POST, &path, Bytes::new()).await?;
            let etag = etag(&answer);
            let sum = answer.into_body().collect().await?.to_bytes();
            let sum = String::from_utf8_lossy(&sum).into_owned();
            let number: i64 = sum.parse().coded(code::ANOTHER_SERVER, || {
                "the server answered no number".to_owned()
            })?;
            written(
                cli,
                &json!({"key": key, "value": number, "etag": etag}),
                &sum,
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Only {
    fn header(&self) -> Option<(HeaderName, String)> {
        let etag = self.etag.as_ref()?;
        // Shells eat the quotes that belong to a tag.
        let quoted = match etag.as_str() {
            "*" => etag.clone(),
            bare => format!("\"{}\"", bare.trim_matches('"')),
        };
        Some((header::IF_MATCH, quoted))
    }
}

/// The path of a bucket, or of a key in it.
async fn place(client: &Client, bucket: &str, key: Option<&str>) -> Result<String> {
    let (app, name) = match bucket.split_once('/') {
        Some((app, name)) => (app.to_owned(), name),
        None => (owner(client, bucket).await?, bucket),
    };
    let path = format!("/v1/kv/{}/{}", segment(&app), segment(name));
    Ok(match key {
        Some("") => fail!(KV_BAD_KEY, "a key cannot be empty"),
        Some(key) => format!("{path}/{}", segment(key)),
        None => path,
    })
}

/// The only app that has a bucket of this name.
async fn owner(client: &Client, bucket: &str) -> Result<String> {
    let all: Value = client.get("/v1/kv").await?;
    let all = all["buckets"].as_array().cloned().unwrap_or_default();
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    let owners = all.iter().filter(|one| one["bucket"] == bucket);
    let owners: Vec<String> = owners.map(|one| text(one, "app")).collect();
    match owners.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let known = all
                .iter()
                .map(|one| text(one, "app") + "/" + &text(one, "bucket"));
            let known: Vec<_> = known.collect();
            let known = match known.is_empty() {
                true => "no app declares one".to_owned(),
                false => format!("there are {}", known.join(", ")),
            };
            fail!(KV_NOT_DECLARED, "no bucket `{bucket}`: {known}")
        }
        several => fail!(
            KV_NOT_DECLARED,
            "several apps have a bucket `{bucket}`: say which, as {}/{bucket}",
            several.join(&format!("/{bucket} or "))
        ),
    }
}

async fn buckets(cli: &Cli, client: &Client, app: Option<String>) -> Result<()> {
    let path = format!("/v1/kv{}", query(&[("app", app)]));
    let answer: Value = client.get(&path).await?;
    if cli.json {
        return show::json(&answer);
    }
    let rows = answer["buckets"].as_array().into_iter().flatten();
    let rows = rows.map(|one| {
        let bucket = ["app", "bucket"].map(|field| one[field].as_str().unwrap_or_default());
        let bytes = model::ByteSize(one["bytes"].as_u64().unwrap_or_default());
        vec![bucket.join("/"), one["keys"].to_string(), bytes.to_string()]
    });
    show::table(&["bucket", "keys", "bytes"], rows.collect(), "no buckets");
    Ok(())
}

fn keys(cli: &Cli, answer: &Value) -> Result<()> {
    if cli.json {
        return show::json(answer);
    }
    let rows = answer["keys"].as_array().into_iter().flatten();
    let rows = rows.map(|one| {
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
        vec![text("key"), one["size"].to_string(), text("etag")]
    });
    show::table(&["key", "bytes", "etag"], rows.collect(), "no keys");
    if let Some(next) = answer["next"].as_str() {
        anstream::eprintln!("there may be more: --after {next}");
    }
    Ok(())
}

async fn get(cli: &Cli, client: &Client, bucket: &str, key: &str) -> Result<()> {
    let path = place(client, bucket, Some(key)).await?;
    let answer = client.send(Method::GET, &path, Bytes::new()).await?;
    let etag = etag(&answer);
    let value = answer.into_body().collect().await?.to_bytes();
    if !cli.json {
        std::io::stdout().write_all(&value)?;
        return Ok(());
    }
    show::json(&match std::str::from_utf8(&value) {
        Ok(text) => json!({"key": key, "etag": etag, "value": text}),
        Err(_) => json!({"key": key, "etag": etag, "base64": STANDARD.encode(&value)}),
    })
}

fn written(cli: &Cli, answer: &Value, said: &str) -> Result<()> {
    if cli.json {
        return show::json(answer);
    }
    anstream::println!("{said}");
    Ok(())
}

fn etag<B>(answer: &http::Response<B>) -> Option<String> {
    let tag = answer.headers().get(header::ETAG)?;
    Some(tag.to_str().ok()?.to_owned())
}

/// A text, `@FILE`, or `-` for standard input, as bytes.
fn read(value: &str) -> Result<Bytes> {
    if value == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes.into());
    }
    match value.strip_prefix('@') {
        Some(file) => {
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
            Ok(bytes.into())
        }
        None => Ok(Bytes::copy_from_slice(value.as_bytes())),
    }
}
