//! What a guest may import: WASI 0.2 and `wasi:http`, with the environment and the output of its workload, its
//! configuration and the buckets of its app. What a guest does not import costs it nothing: imports are resolved once per
//! component.
//!
//! Files and sockets can be imported, because the standard libraries of languages do, and answer that there are none.

use wasmtime::{
    Engine,
    component::{HasData, Linker, Resource},
};
use wasmtime_wasi::p2::{
    DynOutputStream,
    bindings::cli::{environment, stderr, stdout},
};

use super::{config, guest::Guest, keyvalue, output::Printer};
use crate::host::LogStream;

/// Makes the linker that all components share.
///
/// # Errors
/// When two interfaces of one name are defined: a mistake in this file.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    environment::add_to_linker::<Guest, Ours>(&mut linker, |guest| guest)?;
    stdout::add_to_linker::<Guest, Ours>(&mut linker, |guest| guest)?;
    stderr::add_to_linker::<Guest, Ours>(&mut linker, |guest| guest)?;
    linker.allow_shadowing(false);
    config::add(&mut linker)?;
    keyvalue::add(&mut linker)?;
    Ok(linker)
}

/// Interfaces that are implemented here, so that a request copies no environment unless its guest asks.
struct Ours;

impl HasData for Ours {
    type Data<'a> = &'a mut Guest;
}

impl environment::Host for Guest {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.run().pool.environment())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl stdout::Host for Guest {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.printer(LogStream::Stdout)
    }
}

impl stderr::Host for Guest {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.printer(LogStream::Stderr)
    }
}

impl Guest {
    fn printer(&mut self, stream: LogStream) -> wasmtime::Result<Resource<DynOutputStream>> {
        let printer: DynOutputStream = Box::new(Printer::new(self.printing(), stream));
        Ok(self.table.push(printer)?)
    }
}
