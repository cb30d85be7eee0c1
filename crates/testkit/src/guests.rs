//! The Wasm guest of the runtime's suite, for tests that need a component.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The bytes of a component with a path for everything that a guest can do; its source names them. Built once:
/// cargo itself locks the folder and knows when nothing is to be done.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn guest() -> Vec<u8> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target: PathBuf = crates.join("../target/guests");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--release", "--target"])
        .arg("wasm32-wasip2")
        .arg("--manifest-path")
        .arg(crates.join("runtime/tests/guests/behaviours/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    std::fs::read(target.join("wasm32-wasip2/release/behaviours.wasm")).expect("it was just built")
}
