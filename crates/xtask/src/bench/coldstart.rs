//! Cold starts of Lambda handlers, from the request to the answer: with a warm template and without, in Python, Node and
//! Rust. Beside each, AWS's own runtime client from its start to its first answer, with the same interpreter.
//!
//! Every start is that of a workload that nobody has called, so that none is another's; the workloads of a language
//! share its template, as on a server with many functions.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use super::{
    Bench, Figure, lambda, median,
    process::{self, end},
    wasm,
};
use crate::{
    http::{Client, Request},
    server::Server,
    shell,
    workspace::cargo,
};

/// Starts of each kind that are measured one by one.
const STARTS: usize = 20;
/// Starts that follow each other as fast as they can.
const SUSTAINED: usize = 100;
/// Between those that are measured one by one nothing happens for so long: what was made ahead is there again.
const REST: Duration = Duration::from_millis(250);
/// How long a template may take.
const PATIENCE: Duration = Duration::from_secs(30);

const PYTHON: &str = "def handler(event, context):\n    return 'hello'\n";
const NODE: &str = "exports.handler = async () => 'hello';\n";

/// A way to run a handler, and how many workloads run so.
struct Kind {
    name: &'static str,
    runtime: &'static str,
    template: bool,
    count: usize,
}

/// The first workload of those with a template makes the others' template, and is not counted.
const KINDS: [Kind; 6] = [
    Kind {
        name: "python-boot",
        runtime: "python3",
        template: false,
        count: STARTS,
    },
    Kind {
        name: "python-warm",
        runtime: "python3",
        template: true,
        count: STARTS + 1,
    },
    Kind {
        name: "python-many",
        runtime: "python3",
        template: true,
        count: SUSTAINED,
    },
    Kind {
        name: "node-boot",
        runtime: "nodejs",
        template: false,
        count: STARTS,
    },
    Kind {
        name: "node-warm",
        runtime: "nodejs",
        template: true,
        count: STARTS + 1,
    },
    Kind {
        name: "rust",
        runtime: "provided",
        template: false,
        count: STARTS,
    },
];

/// All of them.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let python = lambda::python(bench)?;
    let (node, client) = node(bench)?;
    let rust = rust(bench)?;
    let server = deployed(bench, &python, &node, &rust)?;
    let ours = Ours::measure(&server)?;
    server.stop()?;
    let start = |program: &Path, args: &[&str]| first_answers(bench, program, args);
    let mut awslambdaric = start(&python, &["-m", "awslambdaric", "app.handler"])?;
    let client = client.to_str().context("a path in UTF-8")?;
    let mut ric = start(&node, &[client, "app.handler"])?;
    let mut bare = start(&rust, &[])?;
    let less =
        |program: &Path, (metric, peer): (&str, &str), mut ours: Vec<f64>, theirs: &mut [f64]| {
            let metric = format!("ms from a request to the answer of a new {metric}, median of 20");
            let peer = format!("{peer}, from its start");
            let (ours, theirs) = (median(&mut ours), median(theirs));
            bench
                .less("coldstart", &metric, &peer, ours, theirs)
                .run_by(program)
        };
    let alone = |metric: &str, value| bench.alone("coldstart", metric, value);
    Ok(vec![
        less(
            &python,
            ("Python instance that boots", "awslambdaric"),
            ours.python_boot,
            &mut awslambdaric,
        ),
        less(
            &python,
            ("Python instance of a warm template", "awslambdaric"),
            ours.python_warm,
            &mut awslambdaric,
        ),
        less(
            &node,
            ("Node instance that boots", "aws-lambda-ric"),
            ours.node_boot,
            &mut ric,
        ),
        less(
            &node,
            ("Node instance of a warm template", "aws-lambda-ric"),
            ours.node_warm,
            &mut ric,
        ),
        less(
            &rust,
            ("Rust instance", "lambda_runtime alone"),
            ours.rust,
            &mut bare,
        ),
        alone(
            "starts of those measured with a warm template that came of one, in 100",
            ours.of_template,
        ),
        alone(
            "sustained cold starts of Python instances of a template, per second",
            ours.sustained,
        ),
        alone(
            "CPU ms of the server and all instances per sustained cold start",
            ours.cpu,
        ),
        alone("CPU ms of making a template, mean", ours.making),
    ])
}

/// What was measured of ours, in milliseconds unless it says otherwise.
struct Ours {
    python_boot: Vec<f64>,
    python_warm: Vec<f64>,
    node_boot: Vec<f64>,
    node_warm: Vec<f64>,
    rust: Vec<f64>,
    of_template: f64,
    sustained: f64,
    cpu: f64,
    making: f64,
}

impl Ours {
    fn measure(server: &Server) -> anyhow::Result<Self> {
        let mut client = Client::new(server.gateway()?);
        let mut each = |kind: &str, from: usize, templates: f64| {
            let mut took = Vec::new();
            for number in from..from + STARTS {
                until_ready(server, templates)?;
                std::thread::sleep(REST);
                took.push(ask(&mut client, kind, number)?);
            }
            anyhow::Ok(took)
        };
        let (python_boot, node_boot) = (each("python-boot", 0, 0.0)?, each("node-boot", 0, 0.0)?);
        let rust = each("rust", 0, 0.0)?;
        ask(&mut Client::new(server.gateway()?), "python-warm", 0)?;
        let before = counted(server, "tangelo_templates_used")?;
        let python_warm = each("python-warm", 1, 1.0)?;
        let cpu = super::cpu::seconds(server.pid())?;
        let begun = Instant::now();
        many(server)?;
        let took = begun.elapsed().as_secs_f64();
        let cpu = super::cpu::seconds(server.pid())? - cpu;
        ask(&mut Client::new(server.gateway()?), "node-warm", 0)?;
        let node_warm = each("node-warm", 1, 2.0)?;
        let made = counted(server, "tangelo_templates_made")?;
        let making = counted(server, "tangelo_templates_cpu_microseconds")?;
        let of_template = counted(server, "tangelo_templates_used")? - before;
        Ok(Self {
            python_boot,
            python_warm,
            node_boot,
            node_warm,
            rust,
            of_template: 100.0 * of_template / amount(2 * STARTS + SUSTAINED),
            sustained: amount(SUSTAINED) / took,
            cpu: 1000.0 * cpu / amount(SUSTAINED),
            making: making / 1000.0 / made.max(1.0),
        })
    }
}

/// Calls workloads that nobody has called, four at a time.
fn many(server: &Server) -> anyhow::Result<()> {
    let address = server.gateway()?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let caller = || {
        let mut client = Client::new(address);
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number >= SUSTAINED {
                return anyhow::Ok(());
            }
            ask(&mut client, "python-many", number)?;
        }
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(caller)).collect();
        for caller in callers {
            let ended = caller.join();
            ended.map_err(|_| anyhow::anyhow!("a caller panicked"))??;
        }
        Ok(())
    })
}

fn ask(client: &mut Client, kind: &str, number: usize) -> anyhow::Result<f64> {
    let answer = client.send(&Request::get(&format!("/{kind}/{number}")))?;
    let body = String::from_utf8_lossy(&answer.body);
    ensure!(
        answer.status == 200,
        "{kind} answered {}: {body}",
        answer.status
    );
    Ok(lambda::micros(answer.took) / 1000.0)
}

/// Waits until so many templates are ready: one of each language with them that was called.
fn until_ready(server: &Server, count: f64) -> anyhow::Result<()> {
    let begun = Instant::now();
    while counted(server, "tangelo_templates_ready")? < count {
        if begun.elapsed() > PATIENCE {
            bail!("no template is ready");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A number of the server's metrics.
fn counted(server: &Server, name: &str) -> anyhow::Result<f64> {
    let answer = Client::new(server.control()?).send(&Request::get("/metrics"))?;
    let text = String::from_utf8_lossy(&answer.body);
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("the server counts no {name}"))?;
    Ok(value.trim().parse()?)
}

/// Milliseconds from the start of a runtime client to its first answer.
fn first_answers(bench: &Bench<'_>, program: &Path, args: &[&str]) -> anyhow::Result<Vec<f64>> {
    let mut all = Vec::new();
    for _ in 0..STARTS {
        let mut command = process::clean(program.to_str().context("a path in UTF-8")?);
        command.args(args);
        let begun = Instant::now();
        let (mut api, mut client) = lambda::start_client(&bench.folder, command)?;
        let answered = api.invoke(lambda::EVENT);
        all.push(lambda::micros(begun.elapsed()) / 1000.0);
        end(&mut client);
        answered?;
    }
    Ok(all)
}

fn deployed(bench: &Bench<'_>, python: &Path, node: &Path, rust: &Path) -> anyhow::Result<Server> {
    let folder = bench.folder.join("app/handler");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("app.py"), PYTHON)?;
    fs::write(folder.join("app.js"), NODE)?;
    fs::copy(rust, folder.join("bootstrap"))?;
    let mut folders = [python, node]
        .map(|program| program.parent().unwrap_or(program))
        .to_vec();
    let path = std::env::var("PATH").unwrap_or_default();
    folders.push(Path::new(&path));
    let path: Vec<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    wasm::deployed_with_path(
        bench,
        Path::new(""),
        &manifest()?,
        &[],
        Some(&path.join(":")),
    )
}

fn manifest() -> anyhow::Result<String> {
    let (mut workloads, mut routes) = (String::new(), String::new());
    for Kind {
        name,
        runtime,
        template,
        count,
    } in &KINDS
    {
        let template = if *template { "runtime" } else { "off" };
        for number in 0..*count {
            writeln!(
                workloads,
                "  {name}-{number}:\n    as: function\n    run: {{lambda: {{runtime: {runtime}, handler: app.handler, \
                 code: handler, template: {template}}}}}"
            )?;
            writeln!(
                routes,
                "    - {{path: /{name}/{number}, to: {name}-{number}}}"
            )?;
        }
    }
    Ok(format!(
        "app: hello\nworkloads:\n{workloads}gateway:\n  routes:\n{routes}"
    ))
}

/// The Node and AWS's client for it, as the tests have them.
fn node(bench: &Bench<'_>) -> anyhow::Result<(PathBuf, PathBuf)> {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let modules = bench.workspace.tools().join("runtime/node_modules");
    let node = modules.join(format!("node-linux-{arch}/bin/node"));
    let client = modules.join("aws-lambda-ric/index.mjs");
    ensure!(
        node.exists() && client.exists(),
        "AWS's runtime client for Node is not there: `cargo xtask test --only tools` installs it"
    );
    Ok((node, client))
}

/// The handler in Rust that the tests have, optimised.
pub(super) fn rust(bench: &Bench<'_>) -> anyhow::Result<PathBuf> {
    let guest = bench
        .workspace
        .root
        .join("crates/runtime/tests/guests/lambda-rust/Cargo.toml");
    let target = bench.workspace.target.join("guests");
    let mut command = Command::new(cargo());
    command
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--manifest-path",
        ])
        .arg(guest)
        .arg("--target-dir")
        .arg(&target);
    shell::run(&mut command)?;
    Ok(target.join("release/bootstrap"))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "numbers of a benchmark are small"
)]
const fn amount(count: usize) -> f64 {
    count as f64
}
