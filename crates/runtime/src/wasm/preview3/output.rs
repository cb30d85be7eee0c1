//! What a guest of WASI 0.3 prints: streams that it hands over, each with the request whose task did.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;
use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{Access, FutureReader, Source, StreamConsumer, StreamReader, StreamResult},
};
use wasmtime_wasi::p3::bindings::cli::{stderr, stdout, types::ErrorCode};

use super::{attribute, imports::Ours};
use crate::{
    host::LogStream,
    wasm::{guest::Guest, run::Run},
};

type Written = FutureReader<Result<(), ErrorCode>>;

impl stdout::Host for Guest {}
impl stderr::Host for Guest {}

impl stdout::HostWithStore<Guest> for Ours {
    fn write_via_stream(
        store: Access<'_, Guest, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Written> {
        print(store, data, LogStream::Stdout)
    }
}

impl stderr::HostWithStore<Guest> for Ours {
    fn write_via_stream(
        store: Access<'_, Guest, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Written> {
        print(store, data, LogStream::Stderr)
    }
}

fn print(
    mut store: Access<'_, Guest, Ours>,
    data: StreamReader<u8>,
    stream: LogStream,
) -> wasmtime::Result<Written> {
    attribute(&mut store.as_context_mut());
    let run = Arc::clone(store.data_mut().run());
    let (all, was_all) = oneshot::channel::<()>();
    let printer = Printer {
        run,
        stream,
        _all: all,
    };
    data.pipe(&mut store, printer)?;
    FutureReader::new(&mut store, async move {
        // Ends with the stream: the other half is dropped with its consumer.
        let _ = was_all.await;
        wasmtime::error::Ok(Ok(()))
    })
}

/// Takes what comes, bounded as all output of an invocation is.
struct Printer {
    run: Arc<Run>,
    stream: LogStream,
    _all: oneshot::Sender<()>,
}

impl StreamConsumer<Guest> for Printer {
    type Item = u8;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, Guest>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let bytes = source.remaining();
        let taken = bytes.len();
        self.run.print(self.stream, bytes);
        source.mark_read(taken);
        Poll::Ready(Ok(StreamResult::Completed))
    }
}
