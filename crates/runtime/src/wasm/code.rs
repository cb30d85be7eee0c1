//! The code of one version: loaded on first use by whoever comes first, while the others wait for the same load.
//!
//! A component that can never work is remembered as such; a failure of the machine is tried again by the next caller.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use model::{ByteSize, ColdStart, Error, Run as RunSpec, code};
use parking_lot::Mutex;
use tokio::sync::watch;
use wasmtime::component::Component;
use wasmtime_wasi_http::{p2::bindings::ProxyPre, p3::bindings::ServicePre};

use super::{
    Pool, cache,
    guest::Guest,
    world::{self, World},
};

/// Compiled code with everything that can be decided before a request comes. Workloads of the same component share it.
pub(super) struct Code {
    pub(super) pre: Pre,
    /// Places that an instance takes in the engine's pool.
    pub(super) weight: u32,
}

/// A component whose imports are resolved.
pub(super) enum Pre {
    /// Of WASI 0.2.
    Two(ProxyPre<Guest>),
    /// Of WASI 0.3.
    Three(ServicePre<Guest>),
}

/// What is compiled, for which WASI, and where the compiled code is or will be.
struct Source {
    bytes: Vec<u8>,
    world: World,
    path: PathBuf,
}

type Loaded = Result<Arc<Code>, Error>;

/// Where the code of a pool will be.
#[derive(Default)]
pub(super) struct Slot {
    done: OnceLock<Loaded>,
    loading: Mutex<Option<watch::Receiver<Option<Loaded>>>>,
}

impl Slot {
    /// The code, if it is there.
    pub(super) fn get(&self) -> Option<&Loaded> {
        self.done.get()
    }

    pub(super) fn is_loading(&self) -> bool {
        self.loading.lock().is_some()
    }
}

impl Pool {
    /// The code, and how long it took when it was not there yet.
    pub(super) async fn code(self: &Arc<Self>) -> Result<(Arc<Code>, ColdStart), Error> {
        if let Some(done) = self.slot.get() {
            return done.clone().map(|code| (code, ColdStart::default()));
        }
        let begun = self.ctx.clock.monotonic();
        let (mut loading, first) = self.join_or_begin();
        let loaded = loading.wait_for(Option::is_some).await.map(|l| l.clone());
        let waited = self.ctx.clock.monotonic().saturating_duration_since(begun);
        let cold = if first {
            ColdStart {
                load: waited,
                ..ColdStart::default()
            }
        } else {
            ColdStart {
                wait: waited,
                ..ColdStart::default()
            }
        };
        loaded
            .ok()
            .flatten()
            .unwrap_or_else(|| Err(Error::internal("the load of a component was cut off")))
            .map(|code| (code, cold))
    }

    fn join_or_begin(self: &Arc<Self>) -> (watch::Receiver<Option<Loaded>>, bool) {
        let mut loading = self.slot.loading.lock();
        if let Some(running) = &*loading {
            return (running.clone(), false);
        }
        let (sender, receiver) = watch::channel(self.slot.get().cloned());
        if receiver.borrow().is_some() {
            return (receiver, false);
        }
        *loading = Some(receiver.clone());
        let pool = Arc::clone(self);
        self.runtime
            .spawn(async move { pool.load_once(&sender).await });
        (receiver, true)
    }

    async fn load_once(self: Arc<Self>, sender: &watch::Sender<Option<Loaded>>) {
        let loaded = self.load().await;
        let lasts = loaded.as_ref().map_or_else(never_loads, |_| true);
        if lasts {
            // Nobody else sets it: this is the only load under way.
            let _ = self.slot.done.set(loaded.clone());
        }
        *self.slot.loading.lock() = None;
        sender.send_replace(Some(loaded));
    }

    /// What is compiled is loaded at once; what is not waits until a processor is free to compile it, so that a deploy of
    /// a thousand functions neither takes all memory nor keeps a function that is compiled from loading.
    async fn load(self: &Arc<Self>) -> Loaded {
        if let Some(code) = self.blocking(Self::find).await? {
            return Ok(code);
        }
        let _turn = self.engine.turn_to_compile().await;
        self.blocking(Self::make).await
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: fn(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let pool = Arc::clone(self);
        let done = self.runtime.spawn_blocking(move || work(&pool)).await;
        done.unwrap_or_else(|_| Err(Error::internal("the compiler panicked")))
    }

    /// The code, if it is compiled.
    fn find(&self) -> Result<Option<Arc<Code>>, Error> {
        self.find_at(&self.source()?)
    }

    fn find_at(&self, source: &Source) -> Result<Option<Arc<Code>>, Error> {
        if let Some(code) = self.engine.code(&source.path) {
            return Ok(Some(code));
        }
        match cache::load(self.wasm(source.world)?, &source.path) {
            Some(component) => self.prepare(source, &component).map(Some),
            None => Ok(None),
        }
    }

    /// Compiles the code, unless somebody else has meanwhile.
    fn make(&self) -> Loaded {
        let source = self.source()?;
        if let Some(code) = self.find_at(&source)? {
            return Ok(code);
        }
        let wasm = self.wasm(source.world)?;
        let compiled = wasm.precompile_component(&source.bytes).map_err(|e| {
            bad(format!(
                "the component does not compile: {}",
                e.root_cause()
            ))
            .context(format!("{e:?}"))
        })?;
        let component = cache::store(wasm, &source.path, &compiled)
            .map_err(|e| Error::internal(format!("compiled code cannot be mapped: {e:?}")))?;
        self.prepare(&source, &component)
    }

    fn prepare(&self, source: &Source, component: &Component) -> Loaded {
        let linked = match source.world {
            World::Two => {
                world::check(&self.engine.wasm, component)?;
                let pre = self.engine.linker.instantiate_pre(component);
                pre.and_then(ProxyPre::new).map(Pre::Two)
            }
            World::Three => {
                let pre = self.engine.preview3()?.linker.instantiate_pre(component);
                pre.and_then(ServicePre::new).map(Pre::Three)
            }
        };
        let pre = linked.map_err(|e| {
            bad(format!(
                "the component imports what Tangelo does not offer: {}",
                e.root_cause()
            ))
            .context(format!("{e:?}"))
        })?;
        let needs = component.resources_required();
        let weight = self.engine.weight(
            needs.as_ref().map_or(1, |n| n.num_memories),
            needs.as_ref().map_or(1, |n| n.num_tables),
        )?;
        Ok(self.engine.shared(&source.path, Code { pre, weight }))
    }

    fn bytes(&self) -> Result<Vec<u8>, Error> {
        let RunSpec::Wasm { component, .. } = &self.spec.workload.run else {
            return Err(Error::internal(
                "a Wasm pool for a workload that is not Wasm",
            ));
        };
        let bytes = read(&self.spec.folder.join(component), self.ctx.limits.component)?;
        check_kind(&bytes)?;
        Ok(bytes)
    }

    fn source(&self) -> Result<Source, Error> {
        let bytes = self.bytes()?;
        let concurrent = self.reuse.is_some_and(|reuse| reuse.concurrent > 1);
        let world = world::chosen(&bytes, self.engine.has_preview3(), concurrent)?;
        let path = cache::path(&cache::folder(&self.ctx.cache), &self.engine.wasm, &bytes);
        let path = match world {
            World::Two => path,
            World::Three => cache::preview3(&path),
        };
        Ok(Source { bytes, world, path })
    }

    /// What compiles and runs components of `world`.
    fn wasm(&self, world: World) -> Result<&wasmtime::Engine, Error> {
        match world {
            World::Two => Ok(&self.engine.wasm),
            World::Three => self.engine.preview3().map(|engine| &engine.wasm),
        }
    }

    /// What the manifest says, and above it what the platform gives. Asked anew by every guest that wants it: secrets
    /// may have changed.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let platform = self.ctx.host.enter(&self.presence);
        let own = self.spec.workload.env.iter();
        let own = own.filter(|(name, _)| platform.iter().all(|(taken, _)| taken != *name));
        let mut all: Vec<_> = own
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        all.extend(platform);
        all
    }
}

fn read(path: &Path, most: ByteSize) -> Result<Vec<u8>, Error> {
    let failed = |e: io::Error| {
        Error::new(code::START_FAILED, "the component cannot be read")
            .context(format!("{}: {e}", path.display()))
    };
    let file = fs::File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if size <= most.0 {
        bytes.reserve_exact(usize::try_from(size).unwrap_or(0) + 1);
        file.take(most.0 + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    if size > most.0 || bytes.len() as u64 > most.0 {
        return Err(bad(format!(
            "the component has {size} bytes; at most {most} are taken"
        )));
    }
    Ok(bytes)
}

/// The first eight bytes say what a Wasm file is (component-model binary format, "Component Definitions").
fn check_kind(bytes: &[u8]) -> Result<(), Error> {
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(bad(
            "the file is a core WebAssembly module, not a component: build it for `wasm32-wasip2`",
        )),
        [0, b'a', b's', b'm', ..] => Err(bad(
            "the file is WebAssembly of a version that Tangelo does not know",
        )),
        _ => Err(bad("the file is no WebAssembly component")),
    }
}

/// Whether trying again would end the same way.
fn never_loads(error: &Error) -> bool {
    matches!(
        error.code,
        code::BAD_COMPONENT | code::PREVIEW_OFF | code::NOT_CONCURRENT
    )
}

pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::new(code::BAD_COMPONENT, message)
}
