//! Opening and closing the platform: rooms are made from the bottom up, and closed from the top down.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use access::{MeshTokens, Secrets};
use bus::Bus;
use model::{ByteSize, Clock, Error, Ids, Limits};
use parking_lot::Mutex;
use runtime::{Context, Runtime, container::Engine, launcher::Launcher};
use store::{FolderLock, Store, crash::Crash};
use telemetry::Telemetry;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use crate::{
    Platform, Rooms,
    apps::Apps,
    calls::Calls,
    deploy::{Claims, Deployer, Register, Turns},
    dispatch::{Buffers, Dispatch},
    events::Events,
    host::{Doors, PlatformHost},
    keyvalue::KeyValue,
    loops,
    mesh::Mesh,
    streams::Streams,
    versions::Versions,
};

/// What a platform is made from.
pub struct Options {
    /// The data folder.
    pub data: PathBuf,
    /// Its lock, held before anything of an earlier server was swept or anything listens.
    pub lock: FolderLock,
    /// A folder for what can be made again: compiled code, bootstraps.
    pub cache: PathBuf,
    /// The clock.
    pub clock: Clock,
    /// Where ids come from.
    pub ids: Ids,
    /// The limits.
    pub limits: Limits,
    /// Secrets by name.
    pub secrets: Secrets,
    /// What starts processes.
    pub launcher: Launcher,
    /// What starts containers.
    pub engine: Engine,
    /// How traces and logs are kept.
    pub telemetry: Kept,
    /// How many revisions of an app stay to go back to.
    pub keep_revisions: u32,
    /// How long it is remembered what workloads used.
    pub usage_retention: Duration,
    /// Where workloads will reach the mesh.
    pub mesh: SocketAddr,
    /// Where workloads will reach the AWS door.
    pub aws: SocketAddr,
    /// When to end without notice: for soaks.
    pub crash: Crash,
    /// Where work runs that nobody waits for: deliveries and asynchronous invocations. Its threads may have a lower claim
    /// to the processors than those of requests; instances are started elsewhere, since they would inherit that.
    pub background: Handle,
}

/// How traces and logs are kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Which traces are kept.
    pub sampling: telemetry::Sampling,
    /// For how long.
    pub retention: Duration,
    /// On how much disk.
    pub max_bytes: ByteSize,
    /// A collector that gets every kept trace.
    pub otlp: Option<telemetry::OtlpExport>,
}

/// A platform with its loops running.
pub struct Running {
    /// The platform.
    pub platform: Platform,
    stop: watch::Sender<bool>,
    loops: JoinSet<()>,
}

impl Platform {
    /// Opens the data folder, makes live what was live, and starts the loops. Blocks while the store recovers.
    ///
    /// # Errors
    /// `STORE_LOCKED`, `STORE_TOO_NEW`, or what a room fails with.
    pub async fn open(options: Options) -> Result<Running, Error> {
        let store_options = store::Options {
            lock: Some(options.lock.clone()),
            limits: options.limits,
            crash: options.crash.clone(),
            ..store::Options::new(&options.data, options.clock.clone())
        };
        let store = tokio::task::spawn_blocking(|| Store::open(store_options))
            .await
            .map_err(Error::internal)??;
        let telemetry = open_telemetry(&options, &store)?;
        let background = options.background.clone();
        let bus = Bus::open(
            store.clone(),
            options.clock.clone(),
            options.ids.clone(),
            options.limits,
        );
        let bus = background.spawn(bus).await.map_err(Error::internal)??;
        let (rooms, host) = rooms(options, store, telemetry, bus)?;
        let platform = Self(Arc::new(rooms));
        let _ = host.mesh.set(platform.mesh().clone());
        platform.deployer().restore().await?;
        let stop = watch::Sender::new(false);
        let loops = loops::start(&platform, &background, &stop.subscribe());
        Ok(Running {
            platform,
            stop,
            loops,
        })
    }
}

fn open_telemetry(options: &Options, store: &Store) -> Result<Telemetry, Error> {
    let kept = &options.telemetry;
    let options = telemetry::Options {
        dir: options.data.join("telemetry"),
        clock: options.clock.clone(),
        sampling: kept.sampling,
        retention: kept.retention,
        max_bytes: kept.max_bytes,
        otlp: kept.otlp.clone(),
        ledger: Some(store.clone()),
    };
    Telemetry::open(options).map_err(Error::internal)
}

fn rooms(
    options: Options,
    store: Store,
    telemetry: Telemetry,
    bus: Bus,
) -> Result<(Rooms, Arc<PlatformHost>), Error> {
    let Options {
        data,
        cache,
        clock,
        ids,
        limits,
        secrets,
        launcher,
        engine,
        mesh,
        aws,
        keep_revisions,
        usage_retention,
        ..
    } = options;
    let (versions, apps) = (Versions::default(), Arc::new(Apps::default()));
    let (tokens, keys) = (Arc::new(MeshTokens::default()), Arc::default());
    let dispatch = Dispatch::new(
        clock.clone(),
        ids.clone(),
        telemetry.clone(),
        Buffers::new(limits.body_buffers),
        &limits,
    );
    let buffers = dispatch.buffers().clone();
    let keyvalue = KeyValue::new(&store, &apps, &versions, buffers.clone(), limits);
    let host = Arc::new(PlatformHost {
        keyvalue: keyvalue.clone(),
        doors: Doors { mesh, aws },
        mesh: OnceLock::new(),
        versions: versions.clone(),
        tokens: Arc::clone(&tokens),
        keys: Arc::clone(&keys),
        secrets: secrets.clone(),
        telemetry: telemetry.clone(),
        bus: bus.clone(),
        ids: ids.clone(),
    });
    let runtime = Runtime::new(Context {
        host: host.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        limits,
        launcher: launcher.clone(),
        engine,
        cache,
        templates: runtime::lambda::Templates::default(),
        berths: runtime::lambda::Berths::default(),
    })?;
    let calls = calls(&bus, &clock, &ids, limits);
    let events = onto_the_bus(&calls, &apps, &versions, buffers);
    let mesh = Mesh {
        streams: Streams::new(store.log(), events.clone()),
        apps: Arc::clone(&apps),
        versions: versions.clone(),
        dispatch: dispatch.clone(),
        events: events.clone(),
        keyvalue: keyvalue.clone(),
        inbox: store.inbox(),
        telemetry: telemetry.clone(),
        tokens,
        clock: clock.clone(),
        ids: ids.clone(),
    };
    let deployer = Arc::new(Deployer {
        store: store.clone(),
        bus: bus.clone(),
        apps: Arc::clone(&apps),
        versions,
        runtime,
        telemetry: telemetry.clone(),
        secrets,
        clock: clock.clone(),
        limits,
        unpacked: data.join("versions"),
        state: data.join("state"),
        keep_revisions,
        backends: Mutex::default(),
        leaving: Mutex::default(),
        unswept: AtomicBool::new(true),
        one_at_a_time: tokio::sync::Mutex::default(),
        turns: Turns::default(),
        claims: Claims::default(),
        under_way: Register::default(),
    });
    let rooms = Rooms {
        clock,
        ids,
        limits,
        store,
        bus,
        telemetry,
        dispatch,
        apps,
        events,
        keyvalue,
        calls,
        mesh,
        deployer,
        relays: crate::databases::Relays::default(),
        sweeps: crate::reconcile::Sweeps::default(),
        outsiders: crate::outside::Outsiders::default(),
        ways: crate::bridges::Bridges::default(),
        keys,
        launcher,
        usage_retention,
        draining: AtomicBool::new(false),
    };
    Ok((rooms, host))
}

fn calls(bus: &Bus, clock: &Clock, ids: &Ids, limits: Limits) -> Calls {
    Calls {
        bus: bus.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        limits,
    }
}

/// What publishes; it needs what calls need, and more.
fn onto_the_bus(calls: &Calls, apps: &Arc<Apps>, versions: &Versions, buffers: Buffers) -> Events {
    Events {
        apps: Arc::clone(apps),
        buffers,
        versions: versions.clone(),
        bus: calls.bus.clone(),
        clock: calls.clock.clone(),
        ids: calls.ids.clone(),
        limits: calls.limits,
    }
}

impl Running {
    /// Stops the loops, drains every instance up to `grace`, and closes the rooms. The doors must have been drained before.
    pub async fn close(mut self, grace: Duration) {
        self.stop.send_replace(true);
        while self.loops.join_next().await.is_some() {}
        // What was replaced or removed a moment ago, too: a container does not end with this process.
        let running = self.platform.deployer().running();
        let drained = running.iter().map(|(_, backend)| backend.drain(grace));
        futures_util::future::join_all(drained).await;
        loops::metering::count(&self.platform);
        self.platform.telemetry().close().await;
        if let Err(error) = self.platform.store().close().await {
            tracing::error!(%error, "the store did not close in order");
        }
    }
}
