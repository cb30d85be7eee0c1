//! A proxied request: Tangelo's gateway, nginx, HAProxy and Caddy with one worker each, before the same upstream, an
//! nginx too.
//!
//! The upstream counts for neither side: the figure is of the server side.

use std::{fs, net::SocketAddr, path::Path};

use super::{
    Bench, Figure, load, median,
    process::{self, Peer},
    wasm,
};

/// Measures us and each peer in turns.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let upstream = nginx(
        &bench.folder.join("upstream"),
        &|_| "return 200 'hello from upstream';".to_owned(),
        "",
    )?;
    let address = upstream.address;
    let manifest = format!(
        "app: proxied\nworkloads:\n  up:\n    as: service\n    run: {{external: {{url: \"http://{address}\"}}}}\n\
         gateway:\n  routes:\n    - {{path: /*, to: up}}\n"
    );
    let server = wasm::deployed(bench, Path::new(""), &manifest, &["--workers", "1"])?;
    let ours = format!("{}/", server.addresses.gateway);
    let mut figures = Vec::new();
    for (name, peer) in [
        nginx_proxy(bench, address)?,
        haproxy(bench, address)?,
        caddy(bench, address)?,
    ] {
        let theirs = format!("http://{}/", peer.address);
        let (mut us, mut them) = (Rounds::default(), Rounds::default());
        for _ in 0..bench.options.rounds {
            us.note(load::round(&ours, server.pid(), bench.options.seconds)?);
            them.note(load::round(&theirs, peer.pid(), bench.options.seconds)?);
        }
        figures.extend(compared(bench, &name, us, them));
    }
    server.stop()?;
    Ok(figures)
}

/// What the rounds of one side showed.
#[derive(Default)]
struct Rounds {
    cpu: Vec<f64>,
    wall: Vec<f64>,
    p99: Vec<f64>,
}

impl Rounds {
    fn note(&mut self, round: load::Round) {
        self.cpu.push(round.per_cpu_second);
        self.wall.push(round.per_second);
        self.p99.push(round.p99);
    }
}

fn compared(bench: &Bench<'_>, name: &str, mut us: Rounds, mut them: Rounds) -> [Figure; 3] {
    [
        bench.more(
            "proxy",
            "requests per CPU second of the server side",
            name,
            median(&mut us.cpu),
            median(&mut them.cpu),
        ),
        bench.more(
            "proxy",
            "requests per second, 64 connections",
            name,
            median(&mut us.wall),
            median(&mut them.wall),
        ),
        bench.less(
            "proxy",
            "ms within which 99 of 100 are answered",
            name,
            median(&mut us.p99),
            median(&mut them.p99),
        ),
    ]
}

fn nginx_proxy(bench: &Bench<'_>, upstream: SocketAddr) -> anyhow::Result<(String, Peer)> {
    let pool = format!("upstream up {{ server {upstream}; keepalive 64; }}");
    let proxy = |_: SocketAddr| {
        "proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection '';".to_owned()
    };
    let peer = nginx(&bench.folder.join("nginx"), &proxy, &pool)?;
    Ok((version("nginx", "-v")?, peer))
}

/// HAProxy with one thread, which keeps and shares connections to the upstream.
fn haproxy(bench: &Bench<'_>, upstream: SocketAddr) -> anyhow::Result<(String, Peer)> {
    let address = process::free_address()?;
    let configuration = format!(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
         timeout server 60s\n  http-reuse always\nfrontend in\n  bind {address}\n  default_backend up\nbackend up\n  \
         server one {upstream}\n"
    );
    let file = bench.folder.join("haproxy.cfg");
    fs::write(&file, configuration)?;
    let mut command = process::clean("haproxy");
    let peer = Peer::start(command.arg("-db").arg("-f").arg(&file), address)?;
    Ok((version("haproxy", "-v")?, peer))
}

/// Caddy on one processor, without its access log, which is off by itself.
fn caddy(bench: &Bench<'_>, upstream: SocketAddr) -> anyhow::Result<(String, Peer)> {
    let address = process::free_address()?;
    let file = bench.folder.join("Caddyfile");
    let configuration = format!(
        "{{\n  admin off\n  auto_https off\n}}\nhttp://{address} {{\n  reverse_proxy {upstream} {{\n    transport http {{\n      \
         keepalive_idle_conns_per_host 64\n    }}\n  }}\n}}\n"
    );
    fs::write(&file, configuration)?;
    let mut command = process::clean("caddy");
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&file)
        .env("GOMAXPROCS", "1");
    let peer = Peer::start(command.stderr(std::process::Stdio::null()), address)?;
    Ok((version("caddy", "version")?, peer))
}

/// An nginx with one worker, without an access log, that answers as `location` says.
fn nginx(
    folder: &Path,
    location: &dyn Fn(SocketAddr) -> String,
    more: &str,
) -> anyhow::Result<Peer> {
    fs::create_dir_all(folder)?;
    let address = process::free_address()?;
    let location = location(address);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind}; ", folder.display()))
        .collect();
    let configuration = format!(
        "daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000; {temporary}{more}\n\
         server {{ listen {address}; location / {{ default_type text/plain; {location} }} }} }}\n",
        folder = folder.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration)?;
    let mut command = process::clean("nginx");
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(&file)
        .arg("-e")
        .arg("stderr");
    Peer::start(&mut command, address)
}

/// A peer's name and version: the first word with a digit in front that it prints, on whichever stream.
pub(super) fn version(program: &str, flag: &str) -> anyhow::Result<String> {
    let output = process::clean(program).arg(flag).output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut words = text.split(|c: char| c.is_whitespace() || c == '/');
    let number = words.find(|word| {
        word.trim_start_matches('v')
            .starts_with(|c: char| c.is_ascii_digit())
    });
    Ok(format!("{program} {}", number.unwrap_or_default()))
}
