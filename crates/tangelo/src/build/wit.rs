//! The WIT of `wasi:http` as the server has it, written out for builders that want files.

use std::{
    io,
    path::{Path, PathBuf},
};

include!(concat!(env!("OUT_DIR"), "/wit.rs"));

/// The version that componentize-js's engine speaks.
const OF_JS: &str = "0.2.10";

/// The world that components are made for, in the server's version.
pub(crate) fn world() -> String {
    format!("wasi:http/proxy@{VERSION}")
}

/// A folder with the WIT in the server's version.
pub(crate) fn folder(cache: &Path) -> io::Result<PathBuf> {
    write(&cache.join(format!("wit-{VERSION}")), |text| {
        text.to_owned()
    })
}

/// A folder with the WIT as [`OF_JS`], which a server with a later 0.2 serves as well. What later versions added to
/// other interfaces is renamed with them: the proxy world does not reach it.
pub(crate) fn folder_for_js(cache: &Path) -> io::Result<PathBuf> {
    write(&cache.join(format!("wit-{VERSION}-as-{OF_JS}")), |text| {
        text.replace(VERSION, OF_JS)
    })
}

/// Written beside and moved into place, so that a folder that is there is whole.
fn write(folder: &Path, edit: impl Fn(&str) -> String) -> io::Result<PathBuf> {
    if folder.exists() {
        return Ok(folder.to_owned());
    }
    let beside = folder.with_extension(format!("new-{}", std::process::id()));
    for (name, text) in FILES {
        let path = beside.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&beside))?;
        std::fs::write(path, edit(text))?;
    }
    match std::fs::rename(&beside, folder) {
        Err(_) if folder.exists() => std::fs::remove_dir_all(&beside)?,
        moved => moved?,
    }
    Ok(folder.to_owned())
}
