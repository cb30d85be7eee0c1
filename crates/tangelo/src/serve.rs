//! `tangelo serve`: the wiring of a server. Binds every door, opens the platform, says that it is ready, serves until
//! told to stop, and drains: doors first, then loops and instances, then the rooms.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    path::Path,
    process::ExitCode,
};

use access::Secrets;
use anyhow::{Context, Result};
use api::OperatorToken;
use clap::Args;
use gateway::{Edge, Listener, MeshDoor, edge, mesh, tls::Certificates};
use model::{Clock, Ids};
use platform::{FolderLock, Kept, Options, Platform, Running};
use runtime::{
    container::{self, Engine},
    launcher::{self, Launcher},
};
use serde::Serialize;
use tokio::{net::TcpListener, runtime::Handle, sync::watch, task::JoinSet};

use crate::{
    client,
    commands::Cli,
    config::{Config, Flags},
    health::{self, HealthDoor},
    memory, pages,
    threads::Threads,
};

/// Run the server
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// Where everything listens.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Addresses {
    pub(crate) gateway: String,
    /// The gateway's address for TLS, where it is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<String>,
    pub(crate) control: String,
    pub(crate) aws: String,
    pub(crate) mesh: String,
    pub(crate) otlp: String,
    pub(crate) data: String,
}

/// What a server stands on before it is one.
pub(crate) struct Footing {
    lock: FolderLock,
    launcher: Launcher,
    engine: Engine,
    /// It does without huge pages as long as it is not busy.
    small: bool,
}

/// A server at work.
pub(crate) struct Server {
    pub(crate) addresses: Addresses,
    config: Config,
    running: Running,
    edge: Edge,
    mesh: MeshDoor,
    stop: watch::Sender<bool>,
    doors: JoinSet<()>,
}

pub(crate) fn run(cli: &Cli, serve: &Serve) -> Result<ExitCode> {
    let config = Config::read(cli.data.as_deref(), &serve.flags)?;
    let footing = Footing::take(&config)?;
    let threads = Threads::start()?;
    threads.block_on(async {
        let server = Server::start(config, footing, threads.background()).await?;
        let interrupted = interrupted()?;
        server.announce(cli.json)?;
        interrupted.await;
        anstream::eprintln!("stopping: requests under way finish, then instances end");
        server.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

impl Footing {
    /// Takes the folder's lock, ends what an earlier server left behind, and starts the launcher, in this order: the
    /// record of instances belongs to whoever holds the lock. To be called while this process has one thread.
    pub(crate) fn take(config: &Config) -> Result<Self> {
        allow_open_files();
        let data = &config.data;
        let lock = FolderLock::take(data).map_err(model::Error::from)?;
        let record = data.join("instances");
        launcher::sweep(&record)
            .context("cannot end instances that an earlier server left behind")?;
        let executable = std::env::current_exe().context("cannot find this program's own file")?;
        let launcher = Launcher::start_with(&executable, &record, &config.machine.cgroups);
        let launcher = launcher.context("cannot start the launcher")?;
        launcher::answer_soon();
        let small = pages::begin_small();
        let engine = Engine::new(container::Options {
            sockets: config.machine.containers.clone(),
            logins: config.machine.logins.clone(),
            data: data.clone(),
        });
        sweep_containers(&engine)?;
        Ok(Self {
            lock,
            launcher,
            engine,
            small,
        })
    }
}

/// Removes containers of an earlier server. One whose engine does not run serves nobody: its rest is for the next start.
fn sweep_containers(engine: &Engine) -> Result<()> {
    let waiting = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match waiting.block_on(engine.sweep()) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "containers of an earlier server are removed"),
        Err(error) => tracing::warn!(%error, context = error.context, "not swept"),
    }
    Ok(())
}

/// A connection through the gateway takes two descriptors, and what a shell allows by default is for programs that
/// open a handful of files.
fn allow_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: allowed.maximum,
        ..allowed
    };
    // Where it is refused, what is allowed stays; `tangelo doctor` says what that is.
    let _ = setrlimit(Resource::Nofile, most);
}

impl Server {
    /// Opens everything; when this returns, requests are served.
    pub(crate) async fn start(
        config: Config,
        footing: Footing,
        background: Handle,
    ) -> Result<Self> {
        let mut gateway = vec![Listener::bind(config.gateway, config.workers)?];
        let tls = tls_listener(&config)?;
        let mesh_listener = Listener::bind(config.mesh, 1)?;
        let control = bind("control", config.control)?;
        let aws = bind("aws", config.aws)?;
        let otlp = bind("otlp-in", config.otlp_in)?;
        let addresses = Addresses {
            gateway: format!("http://{}", gateway[0].address()),
            tls: tls
                .as_ref()
                .map(|tls| format!("https://{}", tls.0.address())),
            control: format!("http://{}", control.local_addr()?),
            aws: format!("http://{}", aws.local_addr()?),
            mesh: format!("http://{}", mesh_listener.address()),
            otlp: format!("http://{}", otlp.local_addr()?),
            data: config.data.display().to_string(),
        };
        refuse_circle(config.otlp.as_deref(), otlp.local_addr()?)?;
        let small = footing.small;
        let secrets: Secrets = config.secrets.read()?.into_iter().collect();
        let options = options(
            &config,
            footing,
            secrets.clone(),
            mesh_listener.address(),
            aws.local_addr()?,
            background,
        );
        let running = open(options, control.try_clone()?).await?;
        let platform = running.platform.clone();
        let stop = watch::Sender::new(false);
        let mut doors = JoinSet::new();
        if small {
            doors.spawn(pages::grow(platform.clock().clone()));
        }
        let socket = client::socket(&config.data);
        let serving =
            api::serve_socket(&socket, platform.clone(), stop.subscribe()).with_context(|| {
                format!(
                    "cannot listen at {}: is the path longer than 100 bytes?",
                    socket.display()
                )
            })?;
        doors.spawn(serving);
        let following = config.secrets.clone();
        doors.spawn(following.follow(secrets, platform.clock().clone()));
        if let (Some((listener, certificates)), Some(files)) = (tls, config.tls.clone()) {
            gateway.push(listener.with_tls(certificates.clone()));
            doors.spawn(files.follow(certificates, platform.clock().clone()));
        }
        let token = operator_token(&config.data)?;
        doors.spawn(api::serve_tcp(
            listener(control)?,
            platform.clone(),
            token,
            stop.subscribe(),
        ));
        doors.spawn(aws::serve(
            listener(aws)?,
            platform.clone(),
            aws::Front {
                plain: addresses.gateway.clone(),
                tls: addresses.tls.clone(),
            },
            stop.subscribe(),
        ));
        doors.spawn(api::serve_otlp(
            listener(otlp)?,
            platform.clone(),
            stop.subscribe(),
        ));
        let limits = edge::connection_limits(platform.limits());
        let mesh = MeshDoor::start(
            mesh::Options {
                listeners: vec![mesh_listener],
                limits: gateway::ConnectionLimits {
                    connections: memory::mesh_connections(platform.limits()),
                    ..limits
                },
                doors: Vec::new(),
            },
            platform.clone(),
        )?;
        let edge = edge::Options {
            listeners: gateway,
            limits,
            trusted: Vec::new(),
            doors: vec![(health::PATH.to_owned(), HealthDoor::new(platform.clone()))],
        };
        let edge = Edge::start(edge, platform)?;
        Ok(Self {
            addresses,
            config,
            running,
            edge,
            mesh,
            stop,
            doors,
        })
    }

    /// Says where it listens: one JSON line, or a few lines for people.
    pub(crate) fn announce(&self, json: bool) -> Result<()> {
        if json {
            anstream::println!("{}", serde_json::to_string(&self.addresses)?);
            return Ok(());
        }
        let Addresses {
            gateway,
            control,
            aws,
            otlp,
            data,
            tls,
            ..
        } = &self.addresses;
        let tls = tls.as_ref().map(|tls| format!(" and {tls}"));
        let tls = tls.unwrap_or_default();
        anstream::println!(
            "tangelo is ready\n  gateway  {gateway}{tls}\n  control  {control}\n  aws      {aws}\n  otlp     {otlp}\n  data     {data}"
        );
        Ok(())
    }

    /// Stops taking requests, lets what is under way finish, ends the instances and closes the store.
    pub(crate) async fn stop(mut self) {
        let grace = self.config.grace;
        self.running.platform.begin_draining();
        self.edge.drain(grace).await;
        self.stop.send_replace(true);
        self.running.close(grace).await;
        self.mesh.drain(std::time::Duration::ZERO).await;
        self.doors.shutdown().await;
    }
}

/// Where TLS is spoken, with the certificates that are there now.
fn tls_listener(config: &Config) -> Result<Option<(Listener, Certificates)>> {
    let Some(files) = &config.tls else {
        return Ok(None);
    };
    let certificates = Certificates::new(&files.read()?)?;
    let listener = Listener::bind(files.address, config.workers)?;
    Ok(Some((listener, certificates)))
}

fn options(
    config: &Config,
    footing: Footing,
    secrets: Secrets,
    mesh: SocketAddr,
    aws: SocketAddr,
    background: Handle,
) -> Options {
    Options {
        data: config.data.clone(),
        lock: footing.lock,
        cache: config.data.join("cache"),
        clock: Clock::system(),
        ids: Ids::system(),
        limits: config.limits,
        secrets,
        launcher: footing.launcher,
        engine: footing.engine,
        telemetry: Kept {
            sampling: platform::telemetry::Sampling::default(),
            retention: config.retention,
            max_bytes: config.telemetry_bytes,
            otlp: config
                .otlp
                .clone()
                .map(platform::telemetry::OtlpExport::new),
        },
        keep_revisions: config.keep_revisions,
        usage_retention: config.usage_retention,
        crash: config.crash.clone(),
        mesh,
        aws,
        background,
    }
}

/// Opens the platform. Until it is open, the control port says that the server is alive and not ready.
async fn open(options: Options, control: StdListener) -> Result<Running> {
    let opened = watch::Sender::new(false);
    let starting = tokio::spawn(api::serve_starting(listener(control)?, opened.subscribe()));
    let running = Platform::open(options).await;
    opened.send_replace(true);
    starting.await?;
    // Whoever starts it operates it, and reads what no client is told.
    running.map_err(|error| match error.context.clone() {
        Some(because) => anyhow::Error::msg(because).context(error),
        None => error.into(),
    })
}

fn bind(door: &str, address: SocketAddr) -> Result<StdListener> {
    let listener = StdListener::bind(address).with_context(|| {
        format!("the {door} door cannot listen at {address}: choose another with --{door} or TANGELO_{}", door.to_uppercase().replace('-', "_"))
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Spans that are sent to where they come in would come in and be sent for ever.
fn refuse_circle(collector: Option<&str>, own: SocketAddr) -> Result<()> {
    let Some(uri) = collector.and_then(|text| text.parse::<http::Uri>().ok()) else {
        return Ok(());
    };
    let here = match uri.host().map(|host| host.trim_matches(['[', ']'])) {
        Some("localhost") => true,
        Some(host) => host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip == own.ip() || ip.is_loopback() && own.ip().is_unspecified()),
        None => false,
    };
    if here && uri.port_u16().unwrap_or(80) == own.port() {
        fail!(
            BAD_CONFIG,
            "the collector {uri} is where this server takes spans in: give the one or the other another address with \
             --otlp or --otlp-in"
        );
    }
    Ok(())
}

fn listener(listener: StdListener) -> Result<TcpListener> {
    Ok(TcpListener::from_std(listener)?)
}

/// The token in the data folder; made on the first start, readable by its owner only.
fn operator_token(data: &Path) -> Result<OperatorToken> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let path = data.join("operator.token");
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(OperatorToken::new(text.trim())),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let text = format!("{:032x}", Ids::system().random());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(OperatorToken::new(&text))
}

/// Resolves at Ctrl-C or SIGTERM; both are heard from now on, also before this is polled. Whoever was told that the server is
/// ready may stop it in the next moment.
pub(crate) fn interrupted() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_is_this_server_is_refused() {
        let refused = |collector: &str, own: &str| {
            let own = own.parse().expect("is an address");
            refuse_circle(Some(collector), own).is_err()
        };
        for (collector, own) in [
            ("http://127.0.0.1:4318", "127.0.0.1:4318"),
            ("http://localhost:4318/v1/traces", "127.0.0.1:4318"),
            ("http://127.0.0.1:4318", "0.0.0.0:4318"),
            ("http://[::1]:4318", "[::1]:4318"),
        ] {
            assert!(refused(collector, own), "{collector}");
        }
        for collector in ["http://127.0.0.1:14318", "http://collector:4318", "not one"] {
            assert!(!refused(collector, "127.0.0.1:4318"), "{collector}");
        }
        assert!(refuse_circle(None, ([127, 0, 0, 1], 1).into()).is_ok());
    }
}
