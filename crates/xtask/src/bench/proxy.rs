//! A proxied request: Tangelo's gateway and nginx with one worker, each before the same upstream, an nginx too.
//!
//! The upstream counts for neither side: the figure is of the server side.

use std::{fs, net::SocketAddr, path::Path};

use super::{
    Bench, Figure, load, median,
    process::{self, Peer},
    wasm,
};

/// Measures both sides in turns.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let upstream = nginx(
        &bench.folder.join("upstream"),
        &|_| "return 200 'hello from upstream';".to_owned(),
        "",
    )?;
    let address = upstream.address;
    let pool = format!("upstream up {{ server {address}; keepalive 64; }}");
    let proxy = |_: SocketAddr| {
        "proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection '';".to_owned()
    };
    let peer = nginx(&bench.folder.join("nginx"), &proxy, &pool)?;
    let manifest = format!(
        "app: proxied\nworkloads:\n  up:\n    as: service\n    run: {{external: {{url: \"http://{address}\"}}}}\n\
         gateway:\n  routes:\n    - {{path: /*, to: up}}\n"
    );
    let server = wasm::deployed(bench, Path::new(""), &manifest, &["--workers", "1"])?;
    let (ours, theirs) = (
        format!("{}/", server.addresses.gateway),
        format!("http://{}/", peer.address),
    );
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
    server.stop()?;
    let name = version()?;
    Ok(vec![
        bench.more(
            "proxy",
            "requests per CPU second of the server side",
            &name,
            median(&mut ours_cpu),
            median(&mut theirs_cpu),
        ),
        bench.more(
            "proxy",
            "requests per second, 64 connections",
            &name,
            median(&mut ours_wall),
            median(&mut theirs_wall),
        ),
    ])
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

fn version() -> anyhow::Result<String> {
    // It says so on standard error.
    let output = process::clean("sh")
        .args(["-c", "nginx -v 2>&1"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.rsplit('/').next().unwrap_or_default().trim();
    Ok(format!("nginx {version}"))
}
