//! `tangelo up`: the loop of development. Serves, deploys the app of a folder, and deploys again whatever is saved.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use notify::{RecursiveMode, Watcher};
use platform::deploy::Deployed;
use tokio::{sync::mpsc, time::timeout};

use super::{
    Cli,
    deploy::{self, Source},
};
use crate::{
    build,
    client::Client,
    config::{Config, Flags},
    serve::{self, Footing, Server},
    threads::Threads,
    upload::{Artifacts, Hashes},
};

/// Serve, build, deploy and watch an app
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The folder of tangelo.yaml, or the file itself
    #[arg(default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

/// Editors write a file in several steps; what comes within this time is one change.
const SETTLE: Duration = Duration::from_millis(20);
/// Longest time that changes are gathered: something in the folder may be written all the time.
const GATHER: Duration = Duration::from_millis(200);

pub(crate) fn run(cli: &Cli, ask: &Up) -> Result<ExitCode> {
    let config = Config::read(cli.data.as_deref(), &ask.flags)?;
    // A broken manifest is told before anything is started.
    let source = Source::read(&ask.path)?;
    let data = config.data.clone();
    let footing = Footing::take(&config)?;
    let threads = Threads::start()?;
    threads.block_on(async {
        let server = Server::start(config, footing, threads.background()).await?;
        let interrupted = serve::interrupted()?;
        server.announce(cli.json)?;
        let client = Client::new(&data);
        let (changes, watcher) = watch(&source.folder)?;
        let mut said = Said::default();
        tokio::select! {
            () = follow(cli, &client, &ask.path, &mut said, changes) => {}
            () = interrupted => {}
        }
        drop(watcher);
        anstream::eprintln!("stopping");
        server.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

async fn follow(
    cli: &Cli,
    client: &Client,
    path: &Path,
    said: &mut Said,
    mut changes: mpsc::UnboundedReceiver<()>,
) {
    let mut next = build(path, said).await;
    loop {
        let begun = model::Clock::system().monotonic();
        let deployed = match next {
            Err(error) => Err(error),
            Ok(build) => match push_or_supersede(client, path, said, &mut changes, &build).await {
                Pushed::Ended(deployed) => deployed,
                Pushed::Superseded(by) => {
                    anstream::eprintln!("  a later save takes its place");
                    next = by.map(|build| *build);
                    continue;
                }
            },
        };
        said.say(cli, deployed, begun);
        if changes.recv().await.is_none() {
            return;
        }
        settle(&mut changes).await;
        next = build(path, said).await;
    }
}

/// What came of pushing a build.
enum Pushed {
    /// It is live, or has failed.
    Ended(Result<Deployed>),
    /// Something else was saved meanwhile: it was called off.
    Superseded(Result<Box<Build>>),
}

/// Pushes a build, unless another is saved before it is live: what waits for an instance that never comes up is not
/// waited for by who has mended it. A change that leaves the build as it is changes nothing, as when an instance
/// writes into the folder.
async fn push_or_supersede(
    client: &Client,
    path: &Path,
    said: &mut Said,
    changes: &mut mpsc::UnboundedReceiver<()>,
    current: &Build,
) -> Pushed {
    let mut push = pin!(deploy::push(client, &current.source, &current.artifacts));
    loop {
        tokio::select! {
            deployed = &mut push => return Pushed::Ended(deployed),
            Some(()) = changes.recv() => {}
        }
        settle(changes).await;
        let next = build(path, said).await;
        match next {
            Ok(next) if next.is_same(current) => {}
            next => return Pushed::Superseded(next.map(Box::new)),
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "waits for an editor, which lives in real time"
)]
async fn settle(changes: &mut mpsc::UnboundedReceiver<()>) {
    let quiet = async { while let Ok(Some(())) = timeout(SETTLE, changes.recv()).await {} };
    let _ = timeout(GATHER, quiet).await;
}

/// What is known from one save to the next.
#[derive(Default)]
struct Said {
    hashes: Hashes,
    /// The warnings that were printed last: a save that changes nothing of them prints nothing of them.
    warnings: String,
    /// Whether the last thing said was what is live. Not so at the start and after an error.
    live: bool,
    /// The mistake that was said last, until something is live again. It is said once: whoever writes this output into a
    /// file below the folder would have each word of it answered by another look.
    mistake: Option<String>,
}

impl Said {
    /// The warnings, when they are not those that were said last.
    fn news<'w>(&mut self, warnings: &'w str) -> Option<&'w str> {
        let changed = self.warnings != warnings;
        warnings.clone_into(&mut self.warnings);
        Some(warnings).filter(|warnings| changed && !warnings.is_empty())
    }

    /// Prints what came of a save; after a mistake the old revision serves on.
    fn say(&mut self, cli: &Cli, deployed: Result<Deployed>, begun: std::time::Instant) {
        let was_live = std::mem::replace(&mut self.live, deployed.is_ok());
        if was_live || deployed.is_ok() {
            self.mistake = None;
        }
        match deployed {
            Ok(deployed) if cli.json => {
                let _ = crate::show::json(&deployed);
            }
            Ok(deployed) if deployed.changed.is_empty() && deployed.removed.is_empty() => {
                if !was_live {
                    anstream::println!("{}: revision {} is live", deployed.app, deployed.revision);
                }
            }
            Ok(deployed) => {
                deploy::print(&deployed);
                let took = model::Clock::system().monotonic() - begun;
                anstream::eprintln!("  live after {}", model::units::display_duration(took));
            }
            Err(error) if self.is_new(&error) => {
                crate::show::error(&error, cli.json);
                anstream::eprintln!("  the revision before this serves on");
            }
            Err(_) => {}
        }
    }

    /// Whether an error is another than the one that was said last.
    fn is_new(&mut self, error: &anyhow::Error) -> bool {
        let told = format!("{error:#}");
        self.mistake.replace(told.clone()) != Some(told)
    }
}

/// An app as it was saved, built and read.
struct Build {
    source: Source,
    artifacts: Artifacts,
}

impl Build {
    fn is_same(&self, other: &Self) -> bool {
        self.source.text == other.source.text
            && self.source.contracts == other.source.contracts
            && self.artifacts.files == other.artifacts.files
    }
}

async fn build(path: &Path, said: &mut Said) -> Result<Build> {
    let source = Source::read(path)?;
    if let Some(warnings) = said.news(&source.warnings) {
        anstream::eprintln!("{warnings}");
    }
    let folder = source.folder.clone();
    let app = source.app.clone();
    tokio::task::spawn_blocking(move || {
        build::run(&folder, &app, true, &mut |line| {
            anstream::eprintln!("{line}")
        })
    })
    .await??;
    let artifacts = source.artifacts(&mut said.hashes)?;
    Ok(Build { source, artifacts })
}

/// Watches everything below `folder` but what tools write there.
fn watch(folder: &Path) -> Result<(mpsc::UnboundedReceiver<()>, notify::RecommendedWatcher)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // Events name files in full, also below a folder that a tool's name happens to be a part of.
    let root = folder.canonicalize()?;
    let below = root.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_source = |path: &PathBuf| is_source(path.strip_prefix(&below).unwrap_or(path));
        if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(is_source)) {
            let _ = sender.send(());
        }
    })?;
    watcher.watch(&root, RecursiveMode::Recursive)?;
    Ok((receiver, watcher))
}

fn is_source(path: &Path) -> bool {
    let tools = ["target", ".tangelo", "node_modules", ".git", "__pycache__"];
    !path
        .components()
        .any(|part| tools.iter().any(|tool| part.as_os_str() == *tool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_said_again_only_when_they_changed() {
        let mut said = Said::default();
        let told = ["", "a", "a", "b", "", "b"].map(|warnings| said.news(warnings).is_some());
        assert_eq!(told, [false, true, false, true, false, true]);
        let mistakes = ["a", "a", "b"].map(|text| said.is_new(&anyhow::anyhow!(text)));
        assert_eq!(mistakes, [true, false, true]);
    }
}
