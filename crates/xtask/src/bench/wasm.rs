//! A Wasm hello through Tangelo's gateway and by `wasmtime serve`: a fresh instance per request against its plain and its
//! best settings, and with instances that are used again on both sides.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    Bench, Figure, load, median,
    process::{self, Peer},
};
use crate::{
    http::{Client, Request},
    server::{self, Server},
    shell, tools,
    workspace::{Workspace, cargo},
};

/// How long the compilation of a component may take.
const COMPILES_WITHIN: Duration = Duration::from_secs(120);

const WASMTIME: &str = "48.0.8";
/// The peer, for people.
pub(super) const NAME: &str = "wasmtime serve 48.0.8";

const MANIFEST: &str = "app: hello
workloads:
  hello:
    as: function
    run: {wasm: {component: hello.wasm}}
    scale: {max: 64, concurrency: 64}
  reused:
    as: function
    run: {wasm: {component: hello.wasm, reuse: {requests: 128}}}
    scale: {max: 64, concurrency: 64}
gateway:
  routes:
    - {path: /, to: hello}
    - {path: /reused, to: reused}
";

/// What `wasmtime serve` does best with: all of its flags that help this work.
const BEST: &[&str] = &[
    "-O",
    "pooling-pagemap-scan=y",
    "-O",
    "pooling-memory-keep-resident=4194304",
    "-O",
    "pooling-table-keep-resident=65536",
];

/// A path of ours, and what it is measured against.
struct Contest {
    /// What is asked, where it is not the component in Rust.
    what: &'static str,
    path: &'static str,
    peer: &'static str,
    flags: &'static [&'static str],
}

const CONTESTS: &[Contest] = &[
    Contest {
        what: "",
        path: "/",
        peer: "",
        flags: &[],
    },
    Contest {
        what: "",
        path: "/",
        peer: ", its best flags",
        flags: BEST,
    },
    Contest {
        what: "",
        path: "/reused",
        peer: ", instances reused 128 times",
        flags: &["--max-instance-reuse-count", "128"],
    },
];

/// Other languages: a template of `tangelo init`, its source, and what is asked.
const LANGUAGES: [(&str, &str, &str); 2] = [
    ("js", "hello.js", "a component in JavaScript: "),
    ("python", "hello/app.py", "a component in Python: "),
];

/// Measures each contest, both sides in turns.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let component = component(bench.workspace, None)?;
    let wasmtime = wasmtime(bench.workspace)?;
    let server = deployed(bench, &component, MANIFEST, &[])?;
    let mut figures = Vec::new();
    for contest in CONTESTS {
        figures.extend(against(bench, &server, &wasmtime, &component, contest)?);
    }
    server.stop()?;
    for (template, source, what) in LANGUAGES {
        let component = of_template(bench, template, source)?;
        let server = deployed(bench, &component, MANIFEST, &[])?;
        let contest = Contest {
            what,
            path: "/",
            peer: ", its best flags",
            flags: BEST,
        };
        figures.extend(against(bench, &server, &wasmtime, &component, &contest)?);
        server.stop()?;
    }
    Ok(figures)
}

/// A hello as `tangelo init` makes it, but for what it prints: nobody's log is measured here.
fn of_template(bench: &Bench<'_>, template: &str, source: &str) -> anyhow::Result<PathBuf> {
    let folder = bench.folder.join(template);
    let path = folder.to_str().context("a path in UTF-8")?;
    let tangelo = |arguments: &[&str]| {
        let mut command = shell::command(&bench.binary, arguments, &bench.folder);
        shell::run(command.stdout(std::io::stderr()))
    };
    tangelo(&["init", path, "--template", template])?;
    let source = folder.join(source);
    let lines = fs::read_to_string(&source)?;
    let quiet = lines.lines().filter(|line| !line.contains("greeting"));
    fs::write(&source, quiet.collect::<Vec<_>>().join("\n"))?;
    tangelo(&["build", path])?;
    Ok(folder.join("build/hello.wasm"))
}

fn against(
    bench: &Bench<'_>,
    server: &Server,
    wasmtime: &Path,
    component: &Path,
    contest: &Contest,
) -> anyhow::Result<[Figure; 2]> {
    let ours = format!("{}{}", server.addresses.gateway, contest.path);
    until_ready(server, contest.path)?;
    let address = process::free_address()?;
    let mut command = process::clean(wasmtime.to_str().context("a path in UTF-8")?);
    command.args(["serve", "-S", "cli", "-O", "pooling-allocator=y"]);
    command.args(contest.flags);
    command.args(["--addr", &address.to_string()]);
    let peer = Peer::start(command.arg(component), address)?;
    let theirs = format!("http://{}/", peer.address);
    let (mut ours_cpu, mut theirs_cpu, mut ours_wall, mut theirs_wall) =
        (vec![], vec![], vec![], vec![]);
    for _ in 0..bench.options.rounds {
        let round = load::round(&ours, server.pid(), bench.options.seconds)?;
        ours_cpu.push(round.per_cpu_second);
        ours_wall.push(round.per_second);
        let round = load::round(&theirs, peer.pid(), bench.options.seconds)?;
        theirs_cpu.push(round.per_cpu_second);
        theirs_wall.push(round.per_second);
    }
    let name = format!("{NAME}{}", contest.peer);
    Ok([
        bench.more(
            "wasm",
            &format!("{}requests per CPU second", contest.what),
            &name,
            median(&mut ours_cpu),
            median(&mut theirs_cpu),
        ),
        bench.more(
            "wasm",
            &format!("{}requests per second, 64 connections", contest.what),
            &name,
            median(&mut ours_wall),
            median(&mut theirs_wall),
        ),
    ])
}

/// Waits until a function answers: a large component is compiled after its deploy was taken.
fn until_ready(server: &Server, path: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let status = Client::new(server.gateway()?)
            .send(&Request::get(path))?
            .status;
        if status == 200 {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < COMPILES_WITHIN,
            "the function answers {status}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A server with one app, whose component (or none) lies beside the manifest.
pub(super) fn deployed(
    bench: &Bench<'_>,
    component: &Path,
    manifest: &str,
    flags: &[&str],
) -> anyhow::Result<Server> {
    deployed_with_path(bench, component, manifest, flags, None)
}

/// The same, where programs are looked for in `path`.
pub(super) fn deployed_with_path(
    bench: &Bench<'_>,
    component: &Path,
    manifest: &str,
    flags: &[&str],
    path: Option<&str>,
) -> anyhow::Result<Server> {
    let app = bench.folder.join("app");
    fs::create_dir_all(&app)?;
    fs::write(app.join("tangelo.yaml"), manifest)?;
    if component.is_file() {
        fs::copy(component, app.join("hello.wasm"))?;
    }
    let server = serve(bench, &bench.folder.join("data"), true, flags, path)?;
    server.tangelo(&["deploy", app.to_str().context("a path in UTF-8")?])?;
    Ok(server)
}

/// A server with the data in a folder; `fresh`: with none.
pub(super) fn serve(
    bench: &Bench<'_>,
    data: &Path,
    fresh: bool,
    flags: &[&str],
    path: Option<&str>,
) -> anyhow::Result<Server> {
    Server::start(&server::Options {
        binary: &bench.binary,
        data,
        fresh,
        secrets: None,
        ports: server::Ports::Any,
        flags,
        clean: true,
        crash: None,
        path,
    })
}

/// The hello component; with `text`, one that says that.
pub(super) fn component(workspace: &Workspace, text: Option<&str>) -> anyhow::Result<PathBuf> {
    tools::wasm_target(workspace)?;
    let folder = workspace.root.join("bench/hello");
    let target = workspace.target.join("bench-guests");
    let arguments = [
        "build",
        "--release",
        "--locked",
        "--target",
        "wasm32-wasip2",
    ];
    let mut command = shell::command(cargo(), &arguments, &folder);
    command.env("CARGO_TARGET_DIR", &target).env_remove("HELLO");
    command.envs(text.map(|text| ("HELLO", text)));
    shell::run(command.stdout(std::io::stderr()))?;
    let built = target.join("wasm32-wasip2/release/hello.wasm");
    let Some(text) = text else { return Ok(built) };
    let copy = target.join(format!("hello-{text}.wasm"));
    fs::copy(built, &copy)?;
    Ok(copy)
}

/// wasmtime's own server, built with optimisation as its users run it; kept in the tools folder.
pub(super) fn wasmtime(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let root = workspace.tools();
    let binary = root.join("bin/wasmtime");
    let version = format!("wasmtime {WASMTIME}");
    let here = shell::output(&mut shell::command(
        &binary,
        &["--version"],
        &workspace.root,
    ));
    if here.is_ok_and(|text| text.starts_with(&version)) {
        return Ok(binary);
    }
    eprintln!("installing wasmtime-cli {WASMTIME}: this takes a while, once");
    let arguments = ["install", "--locked", "wasmtime-cli", "--version", WASMTIME];
    let mut command = shell::command(cargo(), &arguments, &std::env::temp_dir());
    command
        .arg("--root")
        .arg(&root)
        .env("CARGO_TARGET_DIR", root.join("build"));
    shell::run(command.stdout(std::io::stderr()))?;
    let _ = fs::remove_dir_all(root.join("build"));
    Ok(binary)
}
