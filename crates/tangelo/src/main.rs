//! The `tangelo` binary: the command line, and the wiring of a server. What the platform does lives in the crates below.

#[macro_use]
mod failure;

mod allocator;
mod build;
mod certificates;
mod client;
mod commands;
mod config;
mod follow;
mod health;
mod init;
mod limits;
mod machine;
mod memory;
mod pages;
mod secrets;
mod serve;
mod show;
mod threads;
mod upload;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    // Before anything starts a thread: this copy of the program is the launcher (docs/ARCHITECTURE.md).
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == runtime::launcher::ARGUMENT)
    {
        return runtime::launcher::main();
    }
    let cli = match commands::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let in_json = std::env::args_os().any(|argument| argument == "--json");
            return failure::of_usage(&error, in_json);
        }
    };
    show::start_logging(cli.verbose);
    let in_json = cli.json;
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            show::error(&error, in_json);
            ExitCode::FAILURE
        }
    }
}
