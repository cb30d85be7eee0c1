//! What a component of WASI 0.3 may import: all that one of 0.2 may, since standard libraries still do, and WASI 0.3
//! with `wasi:http` beside it. Each call that leaves a trace outside says first whose request it belongs to.

use wasmtime::{
    AsContextMut, Engine, StoreContextMut,
    component::{Accessor, HasData, Linker, Resource},
};
use wasmtime_wasi::{
    p2::{
        DynOutputStream, StreamError,
        bindings::io::streams::{self, Host as _, HostOutputStream as _},
    },
    p3::bindings::cli::{environment, stderr, stdout},
};
use wasmtime_wasi_http::{
    WasiHttp, WasiHttpView,
    p3::{
        Request, Response,
        bindings::http::{client, types::ErrorCode},
    },
};

use super::attribute;
use crate::wasm::guest::Guest;

/// The version of the interface that wasmtime defines, and to which other versions resolve.
const CLIENT: &str = "wasi:http/client@0.3.0";
/// The same of the streams that `println!` prints to.
const STREAMS: &str = "wasi:io/streams@0.2.12";

/// Interfaces that are implemented here.
pub(super) struct Ours;

impl HasData for Ours {
    type Data<'a> = &'a mut Guest;
}

/// Makes the linker that all components of WASI 0.3 share.
///
/// # Errors
/// When two interfaces of one name are defined: a mistake in this file.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = crate::wasm::imports::linker(engine)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    linker.allow_shadowing(true);
    environment::add_to_linker::<Guest, Ours>(&mut linker, |guest| guest)?;
    stdout::add_to_linker::<Guest, Ours>(&mut linker, |guest| guest)?;
    stderr::add_to_linker::<Guest, Ours>(&mut linker, |guest| guest)?;
    attribute_requests(&mut linker)?;
    attribute_prints(&mut linker)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

impl environment::Host for Guest {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.run().pool.environment())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn get_initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

type Sent = (Result<Resource<Response>, ErrorCode>,);

fn attribute_requests(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(CLIENT)?;
    interface.func_wrap_concurrent(
        "send",
        |accessor: &Accessor<Guest>, (request,): (Resource<Request>,)| {
            Box::pin(async move { send(accessor, request).await })
        },
    )
}

async fn send(accessor: &Accessor<Guest>, request: Resource<Request>) -> wasmtime::Result<Sent> {
    // The request leaves in the first poll, before any other task can turn the store to its own.
    accessor.with(|mut access| attribute(&mut access.as_context_mut()));
    let accessor = accessor.with_getter::<WasiHttp>(Guest::http);
    match <WasiHttp as client::HostWithStore<Guest>>::send(&accessor, request).await {
        Ok(response) => Ok((Ok(response),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

type Written = (Result<(), streams::StreamError>,);
type Writing = (Resource<DynOutputStream>, Vec<u8>);

/// `println!` of today's standard libraries is WASI 0.2's: its stream is made once, and used by whichever task prints.
fn attribute_prints(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(STREAMS)?;
    interface.func_wrap(
        "[method]output-stream.write",
        |mut store: StoreContextMut<'_, Guest>, (stream, bytes): Writing| {
            attribute(&mut store);
            let table = &mut store.data_mut().table;
            let written = table.write(stream, bytes);
            said(&mut store, written)
        },
    )?;
    interface.func_wrap_async(
        "[method]output-stream.blocking-write-and-flush",
        |mut store: StoreContextMut<'_, Guest>, (stream, bytes): Writing| {
            Box::new(async move {
                attribute(&mut store);
                let table = &mut store.data_mut().table;
                let written = table.blocking_write_and_flush(stream, bytes).await;
                said(&mut store, written)
            })
        },
    )?;
    Ok(())
}

fn said(
    store: &mut StoreContextMut<'_, Guest>,
    written: Result<(), StreamError>,
) -> wasmtime::Result<Written> {
    match written {
        Ok(()) => Ok((Ok(()),)),
        Err(error) => Ok((Err(store.data_mut().table.convert_stream_error(error)?),)),
    }
}
