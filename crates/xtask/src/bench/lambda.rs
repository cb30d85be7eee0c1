//! Lambda handlers in Python and Rust: a warm invocation through the gateway at one in flight. Beside each, AWS's own
//! runtime client against the smallest possible Runtime API server, with the same interpreter.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};

use super::{
    Bench, Figure, coldstart, median,
    process::{self, end},
    runtime_api::RuntimeApi,
    wasm,
};
use crate::{
    http::{Client, Request},
    server::Server,
};

const WARM: usize = 3000;

const HANDLER: &str = "def handler(event, context):\n    return 'hello'\n";

/// Warm invocations.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let (python, rust) = (python(bench)?, coldstart::rust(bench)?);
    let server = deployed(bench, &rust)?;
    let mut client = Client::new(server.gateway()?);
    let mut ours = |path: &str| warm(|| ask(&mut client, path));
    let (mut in_python, mut in_rust) = (ours("/python")?, ours("/rust")?);
    server.stop()?;
    let theirs = |program: &Path, args: &[&str]| {
        let mut command = process::clean(program.to_str().context("a path in UTF-8")?);
        command.args(args);
        let (mut api, mut runtime) = start_client(&bench.folder, command)?;
        let took = warm(|| api.invoke(EVENT));
        end(&mut runtime);
        took
    };
    let mut awslambdaric = theirs(&python, &["-m", "awslambdaric", "app.handler"])?;
    let mut lambda_runtime = theirs(&rust, &[])?;
    let less = |language: &str, peer: &str, ours: &mut [f64], theirs: &mut [f64]| {
        let metric = format!("µs of a warm invocation of a {language} handler, median");
        bench.less("lambda", &metric, peer, median(ours), median(theirs))
    };
    let of_python = less(
        "Python",
        "awslambdaric alone",
        &mut in_python,
        &mut awslambdaric,
    );
    let of_rust = less(
        "Rust",
        "lambda_runtime alone",
        &mut in_rust,
        &mut lambda_runtime,
    );
    Ok(vec![of_python.run_by(&python), of_rust.run_by(&rust)])
}

/// Microseconds that each of many takes, without the first ones.
fn warm(mut once: impl FnMut() -> anyhow::Result<Duration>) -> anyhow::Result<Vec<f64>> {
    for _ in 0..WARM / 10 {
        once()?;
    }
    (0..WARM).map(|_| Ok(micros(once()?))).collect()
}

/// What the peer is handed: the gateway makes a payload of about this size of a request.
pub(super) const EVENT: &str = r#"{"version":"2.0","routeKey":"$default","rawPath":"/","rawQueryString":"","headers":{"host":"127.0.0.1:8080","accept":"*/*","user-agent":"bench"},"requestContext":{"accountId":"000000000000","apiId":"hello","domainName":"127.0.0.1","http":{"method":"GET","path":"/","protocol":"HTTP/1.1","sourceIp":"127.0.0.1","userAgent":"bench"},"requestId":"1","routeKey":"$default","stage":"$default","time":"01/Jan/2026:00:00:00 +0000","timeEpoch":1767225600000},"isBase64Encoded":false}"#;

/// The interpreter of the tools, which has AWS's client; the gateway's instances are given the same.
pub(super) fn python(bench: &Bench<'_>) -> anyhow::Result<PathBuf> {
    let python = bench.workspace.tools().join("runtime/venv/bin/python3");
    ensure!(
        python.exists(),
        "AWS's runtime client is not there: `cargo xtask test --only tools` installs it"
    );
    Ok(python)
}

fn deployed(bench: &Bench<'_>, rust: &Path) -> anyhow::Result<Server> {
    let folder = bench.folder.join("app/handler");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("app.py"), HANDLER)?;
    fs::copy(rust, folder.join("bootstrap"))?;
    let manifest = "app: hello\nworkloads:\n  \
                    python: {as: function, run: {lambda: {runtime: python3, handler: app.handler, code: handler}}}\n  \
                    rust: {as: function, run: {lambda: {runtime: provided, handler: app.handler, code: handler}}}\n\
                    gateway: {routes: [{path: /python, to: python}, {path: /rust, to: rust}]}\n";
    let mut command_path = std::env::var("PATH").unwrap_or_default();
    let bin = python(bench)?;
    let bin = bin.parent().context("is in a folder")?;
    command_path = format!("{}:{command_path}", bin.display());
    wasm::deployed_with_path(bench, Path::new(""), manifest, &[], Some(&command_path))
}

/// A runtime client with a server of its own.
pub(super) fn start_client(
    folder: &Path,
    mut command: std::process::Command,
) -> anyhow::Result<(RuntimeApi, std::process::Child)> {
    let api = RuntimeApi::new()?;
    command
        .current_dir(folder.join("app/handler"))
        .env("AWS_LAMBDA_RUNTIME_API", api.address()?)
        .env("_HANDLER", "app.handler")
        .env("LAMBDA_TASK_ROOT", folder.join("app/handler"))
        .env("AWS_REGION", "us-east-1")
        .env("AWS_LAMBDA_FUNCTION_NAME", "hello")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/hello")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "hello")
        .stdout(std::process::Stdio::null());
    let runtime = command
        .spawn()
        .context("the runtime client does not start")?;
    Ok((api, runtime))
}

fn ask(client: &mut Client, path: &str) -> anyhow::Result<Duration> {
    let answer = client.send(&Request::get(path))?;
    ensure!(
        answer.status == 200,
        "the handler answered {}: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(answer.took)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "durations of a benchmark are short"
)]
pub(super) fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}
