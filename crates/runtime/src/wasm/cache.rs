//! Compiled components on disk: found by what they were compiled from and with, verified before they are used.
//!
//! A file is the compiled code followed by its SHA-256. It is written beside its place, fsynced and renamed, so that a
//! crash leaves the old file or none. What does not verify is compiled again; a cache that cannot be written costs
//! time and nothing else.

use std::{
    collections::HashSet,
    fs::{self, File},
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use super::native;

/// Changes whenever the layout of these files does.
const FORMAT: &[u8] = b"tangelo-wasm-cache-1";
/// Bytes of the hash at the end of a file.
const SUM: usize = 32;

/// The folder of compiled code in the server's cache.
pub(super) fn folder(cache: &Path) -> PathBuf {
    cache.join("wasm")
}

/// Where the code compiled from `component` with the settings of `engine` is, or will be.
pub(super) fn path(folder: &Path, engine: &Engine, component: &[u8]) -> PathBuf {
    let mut key = Key(Sha256::new());
    key.0.update(FORMAT);
    key.0.update(env!("CARGO_PKG_VERSION"));
    engine.precompile_compatibility_hash().hash(&mut key);
    key.0.update(component);
    folder.join(format!("{}.cwasm", hex::encode(key.0.finalize())))
}

/// Where it is when it was compiled for WASI 0.3: beside the code for 0.2, since the engine for 0.3 is not made before
/// a component needs it. Code of another version or with other settings does not load, and is made again.
pub(super) fn preview3(path: &Path) -> PathBuf {
    path.with_extension("preview3.cwasm")
}

/// Removes what is in `folder` and is none of `kept` nor on its way to becoming one; says how many files that were.
///
/// # Errors
/// When the folder cannot be read, or a file cannot be removed.
pub(super) fn sweep(folder: &Path, kept: &HashSet<PathBuf>) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries {
        let path = entry?.path();
        if !kept.contains(&path.with_extension("cwasm")) {
            // Code that is mapped stays usable without its name.
            fs::remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// What is at `path`, if it is whole and fits this engine.
pub(super) fn load(engine: &Engine, path: &Path) -> Option<Component> {
    match verify(path) {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(path = %path.display(), "compiled code is damaged and will be made again");
            return None;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "compiled code cannot be read and will be made again");
            return None;
        }
    }
    match native::map_file(engine, path) {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "compiled code does not fit and will be made again");
            None
        }
    }
}

/// Keeps `compiled` at `path` and maps it from there; without a disk to write to, from memory.
///
/// # Errors
/// When there is no memory for it.
pub(super) fn store(engine: &Engine, path: &Path, compiled: &[u8]) -> wasmtime::Result<Component> {
    match write(path, compiled) {
        Ok(()) => native::map_file(engine, path),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "compiled code cannot be kept on disk");
            native::copy(engine, compiled)
        }
    }
}

fn verify(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let Some(mut left) = file.metadata()?.len().checked_sub(SUM as u64) else {
        return Ok(false);
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = file.read(&mut buffer[..most])?;
        if read == 0 {
            return Ok(false);
        }
        hash.update(&buffer[..read]);
        left -= read as u64;
    }
    let mut sum = [0; SUM];
    file.read_exact(&mut sum)?;
    Ok(hash.finalize()[..] == sum)
}

fn write(path: &Path, compiled: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension(format!("{}-{:x}", std::process::id(), thread_number()));
    let result = write_synced(&temporary, compiled).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result?;
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, compiled: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(compiled)?;
    file.write_all(&Sha256::digest(compiled))?;
    file.sync_all()
}

/// Two threads that compile the same component at once must not write to the same file.
fn thread_number() -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    std::thread::current().id().hash(&mut hasher);
    hasher.finish()
}

/// Feeds what wants to be hashed to SHA-256, whose value is the same in every build.
struct Key(Sha256);

impl Hasher for Key {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        u64::from_le_bytes(
            self.0.clone().finalize()[..8]
                .try_into()
                .expect("a SHA-256 has more than eight bytes"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_and_what_is_about_to_be_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["kept.cwasm", "kept.17-ab", "old.cwasm", "old.17-ab"] {
            fs::write(at(name), name).expect("written");
        }
        let kept = HashSet::from([at("kept.cwasm")]);
        assert_eq!(sweep(folder.path(), &kept).expect("swept"), 2);
        assert!(at("kept.cwasm").exists() && at("kept.17-ab").exists());
        assert_eq!(sweep(folder.path(), &kept).expect("swept"), 0);
        assert_eq!(sweep(&at("none"), &kept).expect("nothing to do"), 0);
    }
}
