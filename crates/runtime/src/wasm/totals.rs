//! What the pool of all Wasm guests holds, and how much of it is in use: figures for operators, read when asked.

use serde::Serialize;

use super::{
    Engine,
    engine::{CORE_INSTANCES, TABLES},
};

/// How much of one kind of thing is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Used {
    /// In use now.
    pub used: u64,
    /// In use at most, ever: what was reserved at start.
    pub most: u64,
}

/// The pool of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Places, of which a guest takes one or, when it is large, more.
    pub places: Used,
    /// Instances of components.
    pub components: Used,
    /// Instances of core modules; a component consists of several.
    pub core_instances: Used,
    /// Linear memories.
    pub memories: Used,
    /// Tables.
    pub tables: Used,
    /// Stacks of guests.
    pub stacks: Used,
    /// Bytes of memories, tables and stacks that nobody uses and that stay resident for the next guest.
    pub resident_unused: u64,
}

impl Totals {
    /// Every kind with its name.
    #[must_use]
    pub const fn kinds(&self) -> [(&'static str, Used); 6] {
        [
            ("places", self.places),
            ("components", self.components),
            ("core_instances", self.core_instances),
            ("memories", self.memories),
            ("tables", self.tables),
            ("stacks", self.stacks),
        ]
    }
}

impl Engine {
    /// What is reserved, and what of it is in use.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let stats = self.stats();
        let most = u64::from(stats.places);
        let of = |used: u64, most: u64| Used { used, most };
        let mut totals = Totals {
            places: of(stats.taken.into(), most),
            components: of(0, most),
            core_instances: of(0, most * u64::from(CORE_INSTANCES)),
            memories: of(stats.memories, most),
            tables: of(0, most * u64::from(TABLES)),
            // Of each engine; those of WASI 0.3 may take several for one guest.
            stacks: of(0, most * self.engines().count() as u64),
            resident_unused: stats.unused_memory + stats.unused_tables + stats.unused_stacks,
        };
        for pool in self
            .engines()
            .filter_map(wasmtime::Engine::pooling_allocator_metrics)
        {
            totals.components.used += pool.component_instances();
            totals.core_instances.used += pool.core_instances();
            totals.tables.used += pool.tables() as u64;
            totals.stacks.used += pool.stacks() as u64;
        }
        totals
    }
}
