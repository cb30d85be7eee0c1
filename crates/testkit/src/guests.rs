//! The Wasm guests of the runtime's suite, for tests that need a component.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The bytes of a component with a path for everything that a guest can do; its source names them.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn guest() -> Vec<u8> {
    component("behaviours")
}

/// The bytes of the guest `name` (`crates/runtime/tests/guests`). Built once: cargo itself locks the folder and knows when
/// nothing is to be done.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn component(name: &str) -> Vec<u8> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target: PathBuf = crates.join("../target/guests");
    let source = crates.join("runtime/tests/guests").join(name);
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--release", "--target"])
        .arg("wasm32-wasip2")
        .arg("--manifest-path")
        .arg(source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let component = target.join("wasm32-wasip2/release").join(name);
    std::fs::read(component.with_extension("wasm")).expect("it was just built")
}
