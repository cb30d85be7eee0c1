//! The one place of this crate where bytes of a file become code that the processor runs.
//!
//! Invariant: nothing is mapped here whose hash [`super::cache`] did not just verify against what it wrote itself.
#![allow(unsafe_code)]

use std::path::Path;

use wasmtime::{Engine, component::Component};

/// Maps a file of compiled code.
///
/// # Errors
/// When it was compiled by another version, for another machine or with other settings.
pub(super) fn map_file(engine: &Engine, verified: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the caller verified that the file holds what `precompile_component` gave, by a hash stored with it;
    // files in the cache are replaced by renaming and never written in place, so that the mapping stays what it is.
    unsafe { Component::deserialize_file(engine, verified) }
}

/// Takes over compiled code that never left this process.
///
/// # Errors
/// When there is no memory for it.
pub(super) fn copy(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come straight from `precompile_component` of the same engine.
    unsafe { Component::deserialize(engine, compiled) }
}
