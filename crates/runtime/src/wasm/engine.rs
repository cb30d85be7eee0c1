//! What all Wasm workloads of a server share: the compiler, the pool of memories and stacks, the interfaces that
//! guests may import, the epoch, and the means to reach out.
//!
//! The pool's totals are address space, not memory. A semaphore guards them, so that a burst waits instead of failing.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use model::{ByteSize, Error, Limits, code};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
    component::Linker,
};

use super::{
    cache, code::Code, dial::Dialer, guest::Guest, imports, preview3::Preview3, ticker::Ticker,
};

/// Fewest places that are worth running with.
const FEWEST: u32 = 8;
/// Tables per place: what components of today's toolchains need, with room.
pub(super) const TABLES: u32 = 4;
/// Elements of the largest table. A debug build of a large program has some ten thousand.
const TABLE_ELEMENTS: usize = 65_536;
/// Core instances in one component; Python's have about twenty.
pub(super) const CORE_INSTANCES: u32 = 100;

/// How an [`Engine`] is set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Guests that may be alive at the same time. Halved until the machine's address space can hold them.
    pub places: u32,
    /// Bytes of each memory that stay resident between two guests; the rest goes back to the system.
    pub keep_resident: usize,
    /// Memories that may stay resident while nobody uses them.
    pub warm: u32,
    /// Bytes of linear memory that all guests have together.
    pub memory: u64,
    /// Whether components of WASI 0.3 run.
    pub preview3: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            places: 1000,
            keep_resident: KEEP_RESIDENT,
            warm: 64,
            memory: Limits::default().wasm_memory.0,
            preview3: false,
        }
    }
}

/// One per server: what all Wasm pools share.
pub struct Engine {
    pub(super) wasm: wasmtime::Engine,
    pub(super) linker: Linker<Guest>,
    pub(super) ticker: Ticker,
    pub(super) dialer: Dialer,
    options: Options,
    /// What WASI 0.3 needs, once a component of it was loaded.
    preview3: OnceLock<Result<Preview3, Error>>,
    places: Arc<Semaphore>,
    total: u32,
    /// Linear memory of all guests, in bytes, and the most that it may be.
    memory: AtomicU64,
    most_memory: u64,
    /// Code in use, by where it is compiled.
    codes: Mutex<HashMap<PathBuf, Weak<Code>>>,
    compiling: Semaphore,
}

/// What an [`Engine`] says about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EngineStats {
    /// Guests that may be alive at the same time.
    pub places: u32,
    /// Components whose code is loaded.
    pub components: u64,
    /// Places that are taken.
    pub taken: u32,
    /// Bytes of memory and tables of all guests together.
    pub guest_memory: u64,
    /// Linear memories in use.
    pub memories: u64,
    /// Memories kept warm for their next guest.
    pub warm_memories: u64,
    /// Resident bytes of unused memories.
    pub unused_memory: u64,
    /// Resident bytes of unused tables.
    pub unused_tables: u64,
    /// Resident bytes of unused stacks, where known.
    pub unused_stacks: u64,
}

impl Engine {
    /// Removes compiled code that was not made from any of the component files `kept` by this engine.
    pub(crate) fn sweep(&self, cache: &Path, kept: &[PathBuf]) -> io::Result<usize> {
        let folder = cache::folder(cache);
        let code = |file: &PathBuf| {
            let bytes = std::fs::read(file).ok()?;
            Some(cache::path(&folder, &self.wasm, &bytes))
        };
        let kept = kept.iter().filter_map(code);
        let kept = kept
            .flat_map(|path| [cache::preview3(&path), path])
            .collect();
        cache::sweep(&folder, &kept)
    }

    /// Reserves the address space and starts the epoch's thread.
    ///
    /// # Errors
    /// When even a small pool does not fit, or no thread can be started.
    pub fn new(options: Options) -> Result<Arc<Self>, Error> {
        let (wasm, total) = largest(options, |_| {})?;
        let linker = imports::linker(&wasm).map_err(|e| Error::internal(format!("{e:?}")))?;
        let ticker = Ticker::start(&wasm).map_err(Error::internal)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            wasm,
            linker,
            ticker,
            dialer: Dialer::default(),
            options: Options {
                places: total,
                ..options
            },
            preview3: OnceLock::new(),
            places: Arc::new(Semaphore::new(total as usize)),
            total,
            memory: AtomicU64::new(0),
            most_memory: options.memory,
            codes: Mutex::default(),
            compiling: Semaphore::new(processors),
        }))
    }

    /// Whether components of WASI 0.3 run.
    pub(super) const fn has_preview3(&self) -> bool {
        self.options.preview3
    }

    /// What WASI 0.3 needs, made by the first that asks.
    ///
    /// # Errors
    /// When this machine has no room for it.
    pub(super) fn preview3(&self) -> Result<&Preview3, Error> {
        let made = self.preview3.get_or_init(|| Preview3::new(self.options));
        made.as_ref().map_err(Clone::clone)
    }

    /// The wasmtime engines that there are.
    pub(super) fn engines(&self) -> impl Iterator<Item = &wasmtime::Engine> {
        let preview3 = self.preview3.get().and_then(|made| made.as_ref().ok());
        [&self.wasm]
            .into_iter()
            .chain(preview3.map(|made| &made.wasm))
    }

    /// How full the pool is and what it keeps resident.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let free = u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX);
        let mut stats = EngineStats {
            places: self.total,
            components: self.in_use(),
            taken: self.total.saturating_sub(free),
            guest_memory: self.memory.load(Relaxed),
            ..EngineStats::default()
        };
        for pool in self
            .engines()
            .filter_map(wasmtime::Engine::pooling_allocator_metrics)
        {
            stats.memories += pool.memories() as u64;
            stats.warm_memories += u64::from(pool.unused_warm_memories());
            stats.unused_memory += pool.unused_memory_bytes_resident() as u64;
            stats.unused_tables += pool.unused_table_bytes_resident() as u64;
            stats.unused_stacks += pool.unused_stack_bytes_resident().unwrap_or(0) as u64;
        }
        stats
    }

    /// A place at once, if there is one.
    pub(super) fn place_now(&self, weight: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_many_owned(weight).ok()
    }

    /// A place when there is one; whoever asked first gets it first.
    pub(super) async fn place(&self, weight: u32) -> OwnedSemaphorePermit {
        Arc::clone(&self.places)
            .acquire_many_owned(weight)
            .await
            .expect("the semaphore lives as long as the engine and is never closed")
    }

    fn in_use(&self) -> u64 {
        let codes = self.codes.lock();
        codes
            .values()
            .filter(|code| code.strong_count() > 0)
            .count() as u64
    }

    /// The code that is compiled at `path`, if somebody uses it.
    pub(super) fn code(&self, path: &Path) -> Option<Arc<Code>> {
        self.codes.lock().get(path)?.upgrade()
    }

    /// Makes `code`, compiled at `path`, everybody's who has the same component.
    pub(super) fn shared(&self, path: &Path, code: Code) -> Arc<Code> {
        let mut codes = self.codes.lock();
        if let Some(shared) = codes.get(path).and_then(Weak::upgrade) {
            return shared;
        }
        codes.retain(|_, code| code.strong_count() > 0);
        let code = Arc::new(code);
        codes.insert(path.to_owned(), Arc::downgrade(&code));
        code
    }

    /// As many compile at the same time as there are processors.
    pub(super) async fn turn_to_compile(&self) -> SemaphorePermit<'_> {
        let turn = self.compiling.acquire().await;
        turn.expect("the semaphore is never closed")
    }

    /// Whether an instance may keep its place and its memory while it waits for its next request: half of all are for
    /// those at work.
    pub(super) fn may_keep(&self) -> bool {
        let half_free = self.places.available_permits() > self.total as usize / 2;
        half_free && self.memory.load(Relaxed) < self.most_memory / 2
    }

    /// Places that the guests of one workload may have together: the others always find some.
    pub(super) const fn share(&self) -> usize {
        (self.total - self.total / 4) as usize
    }

    /// The same of memory, in bytes.
    pub(super) const fn memory_share(&self) -> u64 {
        self.most_memory - self.most_memory / 4
    }

    /// Counts `bytes` of linear memory more; `false`, and nothing, when there is no room for them.
    pub(super) fn take_memory(&self, bytes: u64) -> bool {
        let before = self.memory.fetch_add(bytes, Relaxed);
        let fits = before.saturating_add(bytes) <= self.most_memory;
        if !fits {
            self.memory.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    /// `bytes` of linear memory are free again.
    pub(super) fn give_memory_back(&self, bytes: u64) {
        self.memory.fetch_sub(bytes, Relaxed);
    }

    /// Bytes of linear memory that a guest of a workload that has `taken` could get.
    fn room(&self, taken: u64) -> u64 {
        let of_all = self.most_memory.saturating_sub(self.memory.load(Relaxed));
        of_all.min(self.memory_share().saturating_sub(taken))
    }

    /// Why no guest may begin of a workload that has `taken`, when the memory for it is all taken.
    pub(super) fn refuses(&self, taken: u64) -> Option<Error> {
        let least = LEAST_ROOM.min(self.memory_share());
        (self.room(taken) < least).then(|| self.full())
    }

    /// What is said when the guests have all the memory that there is for them.
    pub(super) fn full(&self) -> Error {
        let message = format!(
            "the guests of all Wasm functions have all the memory that there is for them ({}), or those of this one its \
             share ({}); try again",
            ByteSize(self.most_memory),
            ByteSize(self.memory_share()),
        );
        Error::new(code::SERVER_FULL, message).retry_after(PLACES_TAKEN)
    }

    /// Places that one instance with so many memories and tables takes.
    ///
    /// # Errors
    /// `BAD_COMPONENT` when it needs more than the whole pool could give.
    pub(super) fn weight(&self, memories: u32, tables: u32) -> Result<u32, Error> {
        let weight = memories.max(tables.div_ceil(TABLES)).max(1);
        if weight <= (self.total / 8).max(1) {
            return Ok(weight);
        }
        Err(Error::new(
            code::BAD_COMPONENT,
            format!(
                "the component has {memories} memories and {tables} tables; that is more than one instance may have"
            ),
        ))
    }
}

/// The largest engine that this machine has room for, with what `change` makes of its settings.
pub(super) fn largest(
    options: Options,
    change: impl Fn(&mut Config),
) -> Result<(wasmtime::Engine, u32), Error> {
    let mut places = options.places.max(FEWEST);
    loop {
        let mut config = config(options, places);
        change(&mut config);
        match wasmtime::Engine::new(&config) {
            Ok(engine) => return Ok((engine, places)),
            Err(error) if places <= FEWEST => {
                return Err(Error::internal(format!("no Wasm engine: {error:?}")));
            }
            Err(error) => {
                tracing::info!(places, %error, "no room for so many Wasm guests, trying half")
            }
        }
        places = (places / 2).max(FEWEST);
    }
}

fn config(options: Options, places: u32) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options, places)))
        .epoch_interruption(true)
        .concurrency_support(false)
        // A guest of 4 GiB at most, whose accesses then need no bounds checks.
        .memory_reservation(4 << 30)
        .max_wasm_stack(1 << 20)
        .async_stack_size(2 << 20)
        // Only debuggers outside the process read it, and registering it costs more than the rest of loading.
        .native_unwind_info(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

fn pool(options: Options, places: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(places)
        .total_tables(places.saturating_mul(TABLES))
        .total_stacks(places)
        .total_component_instances(places)
        .total_core_instances(places.saturating_mul(CORE_INSTANCES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_tables_per_module(TABLES)
        .max_memories_per_module(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_component_instance_size(8 << 20)
        .max_core_instance_size(4 << 20)
        .linear_memory_keep_resident(options.keep_resident)
        .table_keep_resident(options.table_kept())
        .max_unused_warm_slots(options.warm)
        .pagemap_scan(Enabled::Auto);
    pool
}

impl Options {
    /// Bytes of each table that stay resident between two guests: all or, where no memory does, none.
    const fn table_kept(&self) -> usize {
        match self.keep_resident {
            0 => 0,
            _ => TABLE_ELEMENTS * size_of::<usize>(),
        }
    }
}

/// Bytes that stay resident of one place while nobody uses it: memory and tables.
pub const KEPT_WARM: usize = KEEP_RESIDENT + TABLES as usize * TABLE_ELEMENTS * size_of::<usize>();

/// Bytes of each memory that stay resident between two guests, unless said otherwise.
const KEEP_RESIDENT: usize = 4 << 20;

/// A guest that finds less than this would not come far.
const LEAST_ROOM: u64 = 1 << 20;

/// How long a caller should wait when all places are taken.
pub(super) const PLACES_TAKEN: Duration = Duration::from_secs(1);
