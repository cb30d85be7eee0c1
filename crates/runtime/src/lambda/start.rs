//! Starting an instance: load, spawn, init; and keeping it until its process has ended.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use model::{ColdStart, Error, Run, app::LambdaTemplate, code};
use tokio::{net::TcpListener, sync::oneshot};

use super::{
    api,
    berths::{Berth, Berths},
    companions::{self, Companions},
    environment::{self, Facts},
    extension_api::Reason,
    instance::{InitFailure, Instance, Parts},
    logs::{Logs, Sources},
    pool::Pool,
    prepared::Prepared,
    scratch,
    templates::{Kind, Means},
};
use crate::{
    host::{LogLine, LogStream, Presence},
    launcher::{self, Child, Command, Exit, Limits},
    pool::Spec,
};

/// How long an instance may take from its start to its first `next`, as on AWS.
pub(crate) const INIT_LIMIT: Duration = Duration::from_secs(10);

/// An instance that is ready, and how long that took. The wait is for whoever waited to fill in.
pub(crate) struct Started {
    pub(crate) instance: Arc<Instance>,
    pub(crate) phases: ColdStart,
}

/// Why there is no instance.
#[derive(Debug, Clone)]
pub(crate) enum StartFailure {
    /// It could not be started at all.
    Refused(Error),
    /// The handler could not be loaded: the error object.
    Reported(Bytes),
    /// Its process ended before it asked for work; with the end of what it wrote.
    Exited(Option<Exit>, Bytes),
    /// It took longer than [`INIT_LIMIT`].
    TimedOut,
}

impl From<Error> for StartFailure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Starts one instance; `ahead` when nobody waits for it.
pub(crate) async fn start(pool: &Arc<Pool>, ahead: bool) -> Result<Started, StartFailure> {
    let clock = &pool.context.clock;
    let began = clock.monotonic();
    let prepared = pool.prepared().await?;
    let loaded = clock.monotonic();
    let Spawned {
        instance,
        ready,
        template,
        kind,
    } = spawn(pool, prepared, ahead).await?;
    let spawned = clock.monotonic();
    let result = tokio::select! {
        ready = ready => ready.unwrap_or(Err(InitFailure::Exited(None))),
        () = clock.sleep(INIT_LIMIT) => {
            instance.logs.note(format!("not ready after {} s: killed", INIT_LIMIT.as_secs()));
            instance.retire(Reason::Timeout);
            return Err(StartFailure::TimedOut);
        }
    };
    if let Err(failure) = result {
        let tail = instance.logs.tail();
        instance.retire(Reason::Failure);
        return Err(match failure {
            InitFailure::Reported(body, kind) => {
                StartFailure::Reported(super::payload::failure::posted(body, kind.as_deref()))
            }
            InitFailure::Exited(exit) => StartFailure::Exited(exit, tail),
        });
    }
    let (extensions, init) = instance.marks.parts(spawned, clock.monotonic());
    let phases = ColdStart {
        wait: Duration::ZERO,
        load: loaded - began,
        spawn: spawned - loaded,
        extensions,
        init,
        template,
    };
    // Only what is called has templates, and they are made when nobody waits any more.
    if let Some(kind) = kind.filter(|_| !ahead) {
        want_template(pool, &instance, &kind);
    }
    let context = Arc::clone(&pool.context);
    tokio::task::spawn_blocking(move || Berths::refill(&context));
    instance.logs.note(format!(
        "started as process {}{} in {} (init {})",
        instance.pid,
        if template { " of a warm template" } else { "" },
        model::units::display_duration(phases.total()),
        model::units::display_duration(phases.init)
    ));
    Ok(Started { instance, phases })
}

fn want_template(pool: &Pool, instance: &Instance, kind: &Kind) {
    let (host, presence) = (
        Arc::clone(&pool.context.host),
        Arc::clone(&instance.presence),
    );
    let clock = pool.context.clock.clone();
    let tell = move |reason: String| {
        host.log(LogLine {
            time: clock.now(),
            app: presence.app.clone(),
            workload: presence.workload.clone(),
            instance: presence.instance,
            invocation: None,
            trace: None,
            stream: LogStream::Platform,
            text: format!("there is no warm template for the next starts: {reason}"),
        });
    };
    let with_handler = |run: &Run| matches!(run, Run::Lambda { template, .. } if *template == LambdaTemplate::Handler);
    if with_handler(&pool.spec.workload.run) {
        *pool.own_template.lock() = Some(kind.clone());
    }
    let means = Means {
        launcher: pool.context.launcher.clone(),
        clock: pool.context.clock.clone(),
        budget: pool.context.limits.templates,
        tell: Box::new(tell),
    };
    pool.context.templates.want(kind, means);
}

/// A process that was made, and how.
struct Spawned {
    instance: Arc<Instance>,
    ready: Ready,
    /// Whether it came of a template.
    template: bool,
    /// The kind of template that it could come of.
    kind: Option<Kind>,
}

type Ready = oneshot::Receiver<Result<(), InitFailure>>;

async fn spawn(pool: &Arc<Pool>, prepared: &Prepared, ahead: bool) -> Result<Spawned, Error> {
    let (context, spec) = (&pool.context, &pool.spec);
    let failed = |e: std::io::Error| {
        Error::new(code::START_FAILED, "an instance cannot be prepared").context(e)
    };
    let Berth {
        id,
        folder: scratch,
        listener,
    } = Berths::take(context).map_err(failed)?;
    let presence = Arc::new(Presence::new(
        id,
        spec.namespace.clone(),
        spec.app.clone(),
        spec.workload.name.clone(),
        spec.version,
    ));
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let facts = Facts {
        handler: &prepared.handler,
        task_root: &prepared.task_root,
        runtime_dir: &prepared.runtime_dir,
        execution_env: prepared.execution_env.as_deref(),
        api: listener.local_addr().map_err(failed)?,
        scratch: &scratch,
        path: &prepared.path,
        log_stream: &log_stream(&context.clock.now().rfc3339(), &id.to_string()),
        ahead,
    };
    let env = environment::environment(spec, &facts, context.host.enter(&presence));
    let kind = kind(spec, prepared, &facts, &env);
    let mut command = Command::new(&prepared.program, &prepared.task_root);
    command.args.clone_from(&prepared.args);
    command.env = env;
    command.limits = Limits::of(&spec.workload);
    let companions = Companions::new(&prepared.extensions, &scratch).map_err(failed)?;
    if let Some(companions) = &companions {
        companions.precede(&prepared.extensions, &mut command);
    }
    let of_template = async {
        let kind = kind.as_ref()?;
        let templates = &context.templates;
        templates.instance(kind, &command, &context.clock).await
    };
    let (spawned, template) = match of_template.await {
        Some(child) => (Ok(child), true),
        None => (context.launcher.spawn(command).await, false),
    };
    match spawned {
        Ok(child) => {
            let (instance, ready) = {
                let external = prepared
                    .extensions
                    .iter()
                    .map(|file| companions::name(file));
                let external = external.collect();
                let parts = (child, listener, scratch);
                adopt(pool, presence, parts, (external, companions))
            };
            Ok(Spawned {
                instance,
                ready,
                template,
                kind,
            })
        }
        Err(error) => {
            context.host.leave(id);
            let _ = std::fs::remove_dir_all(&scratch);
            Err(refused(&error))
        }
    }
}

/// Which template an instance with this environment can come of.
fn kind(
    spec: &Spec,
    prepared: &Prepared,
    facts: &Facts<'_>,
    env: &[(String, String)],
) -> Option<Kind> {
    let args = prepared.template.clone()?;
    let forks = prepared.execution_env.as_ref()?.contains("python");
    let mut kind = Kind {
        program: prepared.program.clone(),
        args,
        cwd: PathBuf::from("/"),
        env: environment::at_boot(spec, env),
        forks,
    };
    if prepared.with_handler {
        // What the handler's module finds while it is imported: everything that is no instance's own.
        let shared = Facts {
            api: SocketAddr::from(([0, 0, 0, 0], 0)),
            scratch: Path::new("/tmp"),
            log_stream: "",
            ahead: false,
            ..*facts
        };
        kind.env = environment::environment(spec, &shared, Vec::new())
            .into_iter()
            .collect();
        kind.env.remove("AWS_LAMBDA_RUNTIME_API");
        kind.env.remove("AWS_LAMBDA_LOG_STREAM_NAME");
        kind.cwd.clone_from(&prepared.task_root);
    }
    Some(kind)
}

/// Makes an instance of a process, and a task that serves it until its end.
fn adopt(
    pool: &Arc<Pool>,
    presence: Arc<Presence>,
    (mut child, listener, folder): (Child, TcpListener, PathBuf),
    (external, companions): (Vec<String>, Option<Companions>),
) -> (Arc<Instance>, Ready) {
    let context = Arc::clone(&pool.context);
    let (ready, when_ready) = oneshot::channel();
    let logs = Logs::new(Sources {
        host: Arc::clone(&context.host),
        clock: context.clock.clone(),
        presence: Arc::clone(&presence),
        limit: context.limits.log_line.as_usize(),
        stdout: child.stdout.take(),
        stderr: child.stderr.take(),
    });
    let exited = child.exited();
    let instance = Arc::new(Instance::new(Parts {
        presence,
        since: context.clock.now(),
        logs,
        reply_limit: context.limits.sync_payload,
        stream_limit: context.limits.streamed_payload,
        concurrency: pool.concurrency(),
        external,
        pool: Arc::downgrade(pool),
        child,
        ready,
    }));
    pool.enlist(&instance);
    let (kept, pool) = (Arc::clone(&instance), Arc::downgrade(pool));
    tokio::spawn(async move {
        let limit = context.limits.scratch;
        let exit = tokio::select! {
            exit = api::serve(&kept, listener, &context.clock, exited) => exit,
            never = companions::watch(&kept, companions, &context.clock) => match never {},
            never = scratch::watch(&kept, &folder, limit, &context.clock) => match never {},
        };
        let unasked = kept.died(exit);
        if unasked {
            kept.logs.note(format!("ended by itself: {exit}"));
        }
        context.host.leave(kept.presence.instance);
        if let Some(pool) = pool.upgrade() {
            pool.gone(&kept, unasked);
        }
        // What it left there can be large, and nobody waits for this.
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
    });
    (instance, when_ready)
}

/// Where instances have their temporary folders.
pub(crate) fn scratch_folder(cache: &std::path::Path) -> PathBuf {
    cache.join("scratch")
}

/// `2026/01/02/[$LATEST]0123…`, as AWS names log streams.
fn log_stream(now: &str, instance: &str) -> String {
    let date = now.get(..10).unwrap_or_default().replace('-', "/");
    format!(
        "{date}/[{}]{}",
        environment::VERSION,
        instance.replace('-', "")
    )
}

fn refused(error: &launcher::Error) -> Error {
    let message = match error {
        launcher::Error::NotFound(program) => {
            format!(
                "`{program}` cannot be started: it, or the interpreter of its first line, is not there"
            )
        }
        other => other.to_string(),
    };
    Error::new(code::START_FAILED, message)
}
