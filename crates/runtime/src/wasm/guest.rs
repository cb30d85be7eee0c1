//! The state inside the store of one guest: what its imports work on, and how much memory it may take.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::{outbound::Outbound, output::Printing, preview3::Instance, run::Run};

/// Handles that a guest may hold at the same time. Each can stand for up to 128 KiB of headers.
const MAX_HANDLES: usize = 4096;

/// Random bytes that a guest may ask for at once. They are made one by one, while its thread does nothing else: so many
/// take about a turn. Browsers give a quarter of that.
const MOST_RANDOM: u64 = 256 << 10;

/// What belongs to one guest.
pub(super) struct Guest {
    pub(super) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(super) outbound: Outbound,
    /// Who the output belongs to, once the guest asked for it: streams outlive a request where instances do.
    printing: Option<Arc<Printing>>,
    limit: usize,
    taken: usize,
    growing: usize,
    /// Bytes of its tables.
    tables: usize,
    /// The instance that it is, in WASI 0.3.
    aboard: Option<Arc<Instance>>,
}

impl Guest {
    /// What belongs to a guest that begins with `run`.
    pub(super) fn new(run: &Arc<Run>, aboard: Option<Arc<Instance>>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            table,
            // Everything in it is denied by default: no sockets, no names, no folders.
            wasi: WasiCtx::builder().max_random_size(MOST_RANDOM).build(),
            http: WasiHttpCtx::new(),
            outbound: Outbound::new(run),
            printing: None,
            limit: run.pool.spec.workload.memory.as_usize(),
            taken: 0,
            growing: 0,
            tables: 0,
            aboard,
        }
    }

    /// An empty store for one invocation, which yields at every tick and ends at its deadline.
    pub(super) fn store(run: &Arc<Run>) -> Store<Self> {
        let mut store = Store::new(&run.pool.engine.wasm, Self::new(run, None));
        store.limiter(|guest| guest);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            let run = store.data().run();
            if !run.on_tick()? {
                return Ok(UpdateDeadline::Continue(1));
            }
            let pause = Box::pin(Arc::clone(run).next_turn());
            Ok(UpdateDeadline::YieldCustom(1, pause))
        });
        store
    }

    /// Makes the store of an instance that served a request before that of the next one, `run`.
    pub(super) fn adopt(store: &mut Store<Self>, run: &Arc<Run>) {
        store.set_epoch_deadline(1);
        let guest = store.data_mut();
        guest.turn_to(run);
        run.meter.peak_memory(guest.taken as u64);
    }

    /// From here on it works for `run`.
    pub(super) fn turn_to(&mut self, run: &Arc<Run>) {
        self.outbound.run = Arc::clone(run);
        if let Some(printing) = &self.printing {
            printing.goes_to(run);
        }
    }

    /// The instance that it is, in WASI 0.3.
    pub(super) const fn aboard(&self) -> Option<&Arc<Instance>> {
        self.aboard.as_ref()
    }

    /// Who the output belongs to.
    pub(super) fn printing(&mut self) -> &Arc<Printing> {
        let run = &self.outbound.run;
        self.printing
            .get_or_insert_with(|| Arc::new(Printing::new(run)))
    }

    pub(super) fn run(&self) -> &Arc<Run> {
        &self.outbound.run
    }

    /// So many bytes are not its any more.
    fn give_back(&self, bytes: usize) {
        self.run().pool.give_memory_back(bytes as u64);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.give_back(self.taken + self.tables);
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outbound,
        }
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.growing = desired.saturating_sub(current);
        let wanted = self.taken.saturating_add(self.growing);
        if wanted > self.limit {
            self.growing = 0;
            self.run().memory_denied.store(true, Relaxed);
            return Ok(false);
        }
        if !self.run().pool.take_memory(self.growing as u64) {
            self.growing = 0;
            self.run().memory_short.store(true, Relaxed);
            return Ok(false);
        }
        self.taken = wanted;
        self.run().meter.peak_memory(wanted as u64);
        if let Some(instance) = &self.aboard {
            instance.has_memory(wanted as u64);
        }
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.taken -= self.growing;
        self.give_back(self.growing);
        self.growing = 0;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The pool bounds every table, and the number of tables; what they take is part of what all guests have.
        let bytes = desired.saturating_sub(current) * size_of::<usize>();
        if !self.run().pool.take_memory(bytes as u64) {
            self.run().memory_short.store(true, Relaxed);
            return Ok(false);
        }
        self.tables += bytes;
        Ok(true)
    }
}
