//! The command line: one file per command, each a thin client of the control API.

mod app;
mod bridges;
mod capture;
mod contracts;
mod dead_letters;
mod deploy;
mod deployed;
mod doctor;
mod events;
mod explain;
mod invoke;
mod keys;
mod kv;
mod local;
mod log;
mod log_state;
mod logs;
mod outbox;
mod progress;
mod projections;
mod ps;
mod reconcile;
mod secret;
mod streams;
mod subscriptions;
mod tail;
mod traces;
mod up;
mod usage;
mod why;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    client::Client,
    config::{self, DATA},
    serve,
};

/// A hybrid serverless platform in one binary: functions and services behind one gateway, on one durable event bus.
///
/// Settings come from flags, then environment variables (TANGELO_…), then tangelo.toml in the data folder (or the file of
/// --config), then defaults.
///
/// Errors end with a code, such as TG0406: `tangelo explain TG0406` says what it means and what to do.
#[derive(Debug, Parser)]
#[command(name = "tangelo", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// The data folder of the server [default: .tangelo, unless the file of --config says another]
    #[arg(long, global = true, env = "TANGELO_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more about what happens, on stderr (TANGELO_LOG sets a finer filter)
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new app from a template
    Init(local::Init),
    /// Check a manifest and say everything that is wrong with it
    Check(local::Check),
    /// Print the JSON Schema of tangelo.yaml, for editors
    Schema,
    /// Build what the manifest says how to build, where inputs changed
    Build(local::Build),
    /// Serve, build, deploy and watch an app: the loop of development
    Up(up::Up),
    /// Run the server
    Serve(serve::Serve),
    /// Build an app and make it live
    Deploy(deploy::Deploy),
    /// List the revisions of an app
    Revisions(app::Named),
    /// Make an earlier revision live again
    Rollback(app::Rollback),
    /// Take an app out of service; what it stored stays
    Remove(app::Named),
    /// Show what runs: workloads with their instances
    Ps(ps::Ps),
    /// Invoke a workload
    Invoke(invoke::Invoke),
    /// Publish an event
    Publish(events::Publish),
    /// Look at the contracts of events: beside a manifest, and over all deployed apps
    Contracts(contracts::Ask),
    /// Look at the log of events, publish, explain, and deliver again what is in it
    Events(log::Events),
    /// Look at buckets, and read and write what workloads keep in them
    Kv(kv::Kv),
    /// List subscriptions, and why they wait; pause and resume them
    Subscriptions(subscriptions::Subscriptions),
    /// Look at streams of events, append to them, and read their snapshots
    Streams(streams::Streams),
    /// List projections and how far behind they are; rebuild, switch, drop
    Projections(projections::Projections),
    /// Show what workloads wrote
    Logs(logs::Logs),
    /// Show traces, or one as a tree
    Traces(traces::Traces),
    /// Look at deliveries that were given up, and try them again
    DeadLetters(dead_letters::DeadLetters),
    /// Make and watch what captures the changes of tables
    Capture(capture::Capture),
    /// Print the table of an outbox, and see how its relay is doing
    Outbox(outbox::Outbox),
    /// Show bridges to other people's brokers, and what is in their way
    Bridges(bridges::Bridges),
    /// See what differs between two places, and compare them now
    Reconcile(reconcile::Reconcile),
    /// List the keys of the bus: what each opens, and when it was used last
    Keys(keys::Keys),
    /// Make a secret: it signs webhooks, or is a key of the bus
    Secret(secret::Secret),
    /// Show what each workload consumed
    Usage(usage::Usage),
    /// Say what this machine lacks, and what would not work without it
    Doctor(config::Flags),
    /// Explain an error code, such as TG0406
    Explain(explain::Explain),
    /// Print each setting and where it came from
    Config(config::Flags),
}

impl Command {
    /// Whether it looks at the settings of a server.
    const fn reads_settings(&self) -> bool {
        matches!(
            self,
            Self::Serve(_) | Self::Up(_) | Self::Doctor(_) | Self::Config(_)
        )
    }
}

/// Runs what the command line says.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    if cli.command.reads_settings() {
        let set = std::env::vars_os().map(|(name, _)| name);
        config::warn_of_variables(&Cli::command(), set);
    }
    match &cli.command {
        Command::Serve(serve) => return serve::run(&cli, serve),
        Command::Up(up) => return up::run(&cli, up),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run_client(&cli))
}

async fn run_client(cli: &Cli) -> Result<ExitCode> {
    let client = Client::new(cli.data.as_deref().unwrap_or_else(|| Path::new(DATA)));
    match &cli.command {
        Command::Init(ask) => local::init(cli, ask),
        Command::Check(ask) => local::check(cli, ask),
        Command::Schema => local::schema(),
        Command::Build(ask) => local::build(cli, ask),
        Command::Deploy(ask) => deploy::run(cli, &client, ask).await,
        Command::Revisions(ask) => app::revisions(cli, &client, ask).await,
        Command::Rollback(ask) => app::rollback(cli, &client, ask).await,
        Command::Remove(ask) => app::remove(cli, &client, ask).await,
        Command::Ps(ask) => ps::run(cli, &client, ask).await,
        Command::Invoke(ask) => invoke::run(cli, &client, ask).await,
        Command::Publish(ask) => events::publish(cli, &client, ask).await,
        Command::Contracts(ask) => contracts::run(cli, &client, ask).await,
        Command::Events(ask) => log::run(cli, &client, ask).await,
        Command::Kv(ask) => kv::run(cli, &client, ask).await,
        Command::Subscriptions(ask) => subscriptions::run(cli, &client, ask).await,
        Command::Streams(ask) => streams::run(cli, &client, ask).await,
        Command::Projections(ask) => projections::run(cli, &client, ask).await,
        Command::Logs(ask) => logs::run(cli, &client, ask).await,
        Command::Traces(ask) => traces::run(cli, &client, ask).await,
        Command::DeadLetters(ask) => dead_letters::run(cli, &client, ask).await,
        Command::Capture(ask) => capture::run(cli, &client, ask).await,
        Command::Outbox(ask) => outbox::run(cli, &client, ask).await,
        Command::Bridges(ask) => bridges::run(cli, &client, ask).await,
        Command::Reconcile(ask) => reconcile::run(cli, &client, ask).await,
        Command::Keys(ask) => keys::run(cli, &client, ask).await,
        Command::Secret(ask) => secret::run(cli, ask),
        Command::Usage(ask) => usage::run(cli, &client, ask).await,
        Command::Doctor(flags) => doctor::run(cli, flags),
        Command::Explain(ask) => explain::run(cli, ask),
        Command::Config(flags) => doctor::config(cli, flags),
        Command::Serve(_) | Command::Up(_) => {
            unreachable!("handled by `run`, which owns their runtimes")
        }
    }
}
