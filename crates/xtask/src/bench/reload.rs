//! From saving a file to the first answer that is new, with `tangelo up` watching: a Python handler, and a built
//! component. Beside it, how long `tangelo up` takes to be live. Polled every few milliseconds on a kept connection; an answer that is an error ends the benchmark,
//! since an edit must not cost a request.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use super::{Bench, Figure, median, process, wasm};
use crate::{
    http::{Client, Request},
    server::Addresses,
};

const EDITS: usize = 20;
const STARTS: usize = 5;
const POLL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30);

const MANIFEST: &str = "app: edited
workloads:
  handler:
    as: function
    run: {lambda: {runtime: python3, handler: app.handler, code: handler}}
  component:
    as: function
    run: {wasm: {component: hello.wasm}}
gateway:
  routes:
    - {path: /handler, to: handler}
    - {path: /component, to: component}
";

/// Measures both kinds.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    // Outside of the target folder, whose files are nobody's sources.
    let folder = std::env::temp_dir().join(format!("tangelo-reload-{}", std::process::id()));
    let result = measure(bench, &folder);
    let _ = fs::remove_dir_all(&folder);
    result
}

fn measure(bench: &Bench<'_>, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let components = [
        wasm::component(bench.workspace, Some("one"))?,
        wasm::component(bench.workspace, Some("two"))?,
    ];
    let app = folder.join("app");
    fs::create_dir_all(app.join("handler"))?;
    fs::write(app.join("tangelo.yaml"), MANIFEST)?;
    write_handler(&app, 0)?;
    fs::copy(&components[0], app.join("hello.wasm"))?;
    let mut up = Up::start(&bench.binary, folder)?;
    let mut client = up.client()?;
    until(&mut client, "/handler", "\"0\"")?;
    until(&mut client, "/component", "one")?;
    let mut handler = Vec::new();
    let mut component = Vec::new();
    for edit in 1..=EDITS {
        write_handler(&app, edit)?;
        handler.push(until(&mut client, "/handler", &format!("\"{edit}\""))?);
        replace(&components[edit % 2], &app.join("hello.wasm"), edit)?;
        component.push(until(&mut client, "/component", ["one", "two"][edit % 2])?);
    }
    drop(up);
    let mut start = Vec::new();
    for _ in 0..STARTS {
        start.push(live_again(&bench.binary, folder)?);
    }
    Ok(vec![
        bench.alone(
            "reload",
            "ms from `tangelo up` to both answers, compiled before, median of 5",
            median(&mut start),
        ),
        bench.alone(
            "reload",
            "ms from saving a Python handler to its answer, median of 20",
            median(&mut handler),
        ),
        bench.alone(
            "reload",
            "ms from a new component to its answer, median of 20",
            median(&mut component),
        ),
    ])
}

/// Milliseconds from the start of `tangelo up` to answers of both functions.
fn live_again(binary: &Path, folder: &Path) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut up = Up::start(binary, folder)?;
    let mut client = up.client()?;
    until(&mut client, "/handler", &format!("\"{EDITS}\""))?;
    until(&mut client, "/component", ["one", "two"][EDITS % 2])?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

/// `tangelo up`, ended when dropped.
struct Up(std::process::Child);

impl Up {
    /// Starts it on the app in `folder`, with its data beside it.
    fn start(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        let mut command = process::clean(binary.to_str().context("a path in UTF-8")?);
        command
            .arg("--data")
            .arg(folder.join("data"))
            .args(["--json", "up"]);
        for door in ["--gateway", "--control", "--aws", "--otlp-in"] {
            command.args([door, "127.0.0.1:0"]);
        }
        command.arg(folder.join("app")).stdout(Stdio::piped());
        Ok(Self(command.spawn().context("tangelo up does not start")?))
    }

    /// A client of its gateway, once it says where that is.
    fn client(&mut self) -> anyhow::Result<Client> {
        let output = self.0.stdout.take().context("its output was piped")?;
        let mut lines = BufReader::new(output).lines();
        let first = lines.next().context("tangelo up said nothing")??;
        let addresses: Addresses =
            serde_json::from_str(&first).with_context(|| format!("tangelo up said {first:?}"))?;
        // Read on, so that it never waits for a full pipe.
        thread::spawn(move || lines.for_each(drop));
        let gateway = addresses.gateway.trim_start_matches("http://").parse()?;
        Ok(Client::new(gateway))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        process::end(&mut self.0);
    }
}

fn write_handler(app: &Path, number: usize) -> anyhow::Result<()> {
    let text = format!("def handler(event, context):\n    return {{\"number\": \"{number}\"}}\n");
    let draft = app.join("handler.draft");
    fs::write(&draft, text)?;
    Ok(fs::rename(draft, app.join("handler/app.py"))?)
}

/// Puts a component in its place, never seen before: with a custom section of its own, so that it is compiled anew.
fn replace(from: &Path, to: &Path, edit: usize) -> anyhow::Result<()> {
    let mut bytes = fs::read(from)?;
    let number = (edit as u64).to_le_bytes();
    // Id 0, size, and the name `edit` with its length, before the contents.
    bytes.extend([0, 5 + 8, 4, b'e', b'd', b'i', b't']);
    bytes.extend(number);
    let draft = to.with_extension("draft");
    fs::write(&draft, bytes)?;
    Ok(fs::rename(draft, to)?)
}

/// Milliseconds until the answer holds `text`.
fn until(client: &mut Client, path: &str, text: &str) -> anyhow::Result<f64> {
    let start = Instant::now();
    let deployed = |status: u16| status != 404;
    loop {
        let answer = client.send(&Request::get(path))?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(
            answer.status == 200 || !deployed(answer.status),
            "{path} answered {}: {body}",
            answer.status
        );
        if answer.status == 200 && body.contains(text) {
            return Ok(start.elapsed().as_secs_f64() * 1000.0);
        }
        if start.elapsed() > PATIENCE {
            bail!("{path} still answers {body:?}, not {text:?}");
        }
        thread::sleep(POLL);
    }
}
