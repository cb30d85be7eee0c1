//! Load for a `tangelo` that counts where its code goes: what the data plane does most, and nothing else. Nothing is
//! measured, and no peer is needed.

use std::{fs, path::Path};

use super::{Bench, Options, load, wasm};
use crate::{server::Server, workspace::Workspace};

/// Functions with fresh and with reused instances, and events for one of them.
const FUNCTIONS: &str = "app: functions
workloads:
  hello:
    as: function
    run: {wasm: {component: hello.wasm}}
    scale: {max: 64, concurrency: 64}
    on: [{event: {type: [bench.happened]}, name: happened}]
  reused:
    as: function
    run: {wasm: {component: hello.wasm, reuse: {requests: 128}}}
    scale: {max: 64, concurrency: 64}
gateway:
  routes:
    - {path: /, to: hello}
    - {path: /reused, to: reused}
    - {path: /events, methods: [POST], to: events}
";

/// Puts `seconds` of each kind of load on it.
///
/// # Errors
/// When a request failed: what the server then counted is not its work.
pub(crate) fn train(workspace: &Workspace, binary: &Path, seconds: u64) -> anyhow::Result<()> {
    let options = Options {
        name: None,
        json: false,
        seconds,
        rounds: 1,
        events: 0,
        dev: false,
        binary: None,
    };
    let bench = |folder: &str| -> anyhow::Result<Bench<'_>> {
        let folder = workspace.target.join("bench-training").join(folder);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        Ok(Bench {
            workspace,
            options: &options,
            binary: binary.to_owned(),
            folder,
        })
    };
    let functions = bench("functions")?;
    let component = wasm::component(workspace, None)?;
    let server = wasm::deployed(&functions, &component, FUNCTIONS, &[])?;
    for path in ["/", "/reused"] {
        let url = format!("{}{path}", server.addresses.gateway);
        load::round(&url, server.pid(), seconds)?;
    }
    publish(&functions, &server)?;
    proxied(&bench("proxy")?, &server)?;
    server.stop()
}

/// Events, each in a request, and their deliveries.
fn publish(bench: &Bench<'_>, server: &Server) -> anyhow::Result<()> {
    let script = load::publishing(&bench.folder)?;
    let url = format!("{}/events", server.addresses.gateway);
    let seconds = bench.options.seconds;
    load::scripted(&url, 64, (&script, "1:256:trained"), server.pid(), seconds)?;
    super::deliver::drained(server)
}

/// Requests to a service, which is the other server.
fn proxied(bench: &Bench<'_>, upstream: &Server) -> anyhow::Result<()> {
    let url = &upstream.addresses.gateway;
    let manifest = format!(
        "app: proxied\nworkloads:\n  up:\n    as: service\n    run: {{external: {{url: \"{url}\"}}}}\n\
         gateway:\n  routes:\n    - {{path: /*, to: up}}\n"
    );
    let server = wasm::deployed(bench, Path::new(""), &manifest, &["--workers", "1"])?;
    let ours = format!("{}/reused", server.addresses.gateway);
    load::round(&ours, server.pid(), bench.options.seconds)?;
    server.stop()
}
