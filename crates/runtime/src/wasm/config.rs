//! `wasi:config/store`: the variables that the manifest gives a workload under `env`, for guests that read configuration.
//!
//! Only those: what the platform adds to the environment of an instance, secrets above all, is not configuration. A
//! secret of the same name as a variable hides it, as it does in the environment. Read from the workload when asked,
//! so that a guest that does not ask costs nothing.

use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Lift, Linker, Lower},
};

use super::guest::Guest;

/// The versions of the interface that toolchains of today import; the two differ in nothing but their names.
const VERSIONS: [&str; 2] = ["0.2.0-rc.1", "0.2.0-draft-2024-09-27"];

/// The interface's `error`. Reading what is in memory never fails.
#[derive(Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum StoreError {
    /// Where the values come from failed.
    #[component(name = "upstream")]
    Upstream(String),
    /// Reading failed.
    #[component(name = "io")]
    Io(String),
}

type Asked<T> = (Result<T, StoreError>,);

/// Offers the interface to guests.
pub(super) fn add(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for version in VERSIONS {
        let mut store = linker.instance(&format!("wasi:config/store@{version}"))?;
        store.func_wrap(
            "get",
            |store: StoreContextMut<'_, Guest>, (key,): (String,)| {
                let found: Asked<Option<String>> = (Ok(store.data().setting(&key)),);
                Ok(found)
            },
        )?;
        store.func_wrap("get-all", |store: StoreContextMut<'_, Guest>, (): ()| {
            let all: Asked<Vec<(String, String)>> = (Ok(store.data().settings()),);
            Ok(all)
        })?;
    }
    Ok(())
}

impl Guest {
    fn setting(&self, key: &str) -> Option<String> {
        let workload = &self.run().pool.spec.workload;
        let hidden = workload.secrets.iter().any(|secret| secret == key);
        let value = workload.env.get(key).filter(|_| !hidden);
        value.cloned()
    }

    fn settings(&self) -> Vec<(String, String)> {
        let workload = &self.run().pool.spec.workload;
        let visible = workload.env.iter();
        let visible = visible.filter(|(name, _)| !workload.secrets.contains(name));
        visible
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}
