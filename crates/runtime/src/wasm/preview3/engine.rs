//! The engine of WASI 0.3: made when the first component asks for it, with stores that can run several guests' tasks.
//!
//! The engine of WASI 0.2 does without that, because it is faster so. Both draw on one number of places and one sum of
//! linear memory; of this one nothing stays resident between two guests, so that what is kept warm has one budget, too.

use wasmtime::{Config, component::Linker};

use super::{super::engine, imports};
use crate::wasm::{Options, guest::Guest, ticker::Ticker};

/// What all components of WASI 0.3 share.
pub(in crate::wasm) struct Preview3 {
    pub(in crate::wasm) wasm: wasmtime::Engine,
    pub(in crate::wasm) linker: Linker<Guest>,
    pub(in crate::wasm) ticker: Ticker,
}

impl Preview3 {
    /// Reserves its address space and starts its epoch's thread.
    ///
    /// # Errors
    /// When even a small pool does not fit, or no thread can be started.
    pub(in crate::wasm) fn new(options: Options) -> Result<Self, model::Error> {
        let options = Options {
            keep_resident: 0,
            warm: 0,
            ..options
        };
        let (wasm, _) = engine::largest(options, concurrent)?;
        let internal = |e: &dyn std::fmt::Debug| model::Error::internal(format!("{e:?}"));
        Ok(Self {
            linker: imports::linker(&wasm).map_err(|e| internal(&e))?,
            ticker: Ticker::start(&wasm).map_err(|e| internal(&e))?,
            wasm,
        })
    }
}

fn concurrent(config: &mut Config) {
    config
        .concurrency_support(true)
        .wasm_component_model_async(true);
}
