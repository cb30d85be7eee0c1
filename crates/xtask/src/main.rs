//! The project's own commands. Depends on no other crate of the workspace, so that it builds in seconds and can
//! say what is wrong with a tree that does not compile.

#![allow(
    clippy::disallowed_methods,
    reason = "a developer's tool: it measures real time and reads the real environment"
)]

mod bench;
mod demo;
mod ends;
mod fuzz;
mod house;
mod http;
mod server;
mod shell;
mod soak;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures Tangelo and its peers on the same work.
    Bench(bench::Options),
    /// Runs the shop on real requests and prints what happened.
    Demo(demo::Options),
    /// Runs the fuzz targets, each for a while.
    Fuzz(fuzz::Options),
    /// Checks the house: crate arrows, `//!`, file and function lengths, error pages.
    House(house::Options),
    /// Kills the server under load and accounts for everything that it had acknowledged.
    Soak(soak::Options),
    /// Runs every check, in the order in which it fails fastest.
    Test(test::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let workspace = workspace::Workspace::here()?;
    ends::watch()?;
    match command {
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Demo(options) => demo::run(&workspace, &options),
        Command::Fuzz(options) => fuzz::run(&workspace, &options),
        Command::House(options) => house::run(&workspace, &options),
        Command::Soak(options) => soak::run(&workspace, &options),
        Command::Test(options) => test::run(&workspace, &options),
    }
}
