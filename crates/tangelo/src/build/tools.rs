//! The tools of the builders, installed into a cache on first use: one folder per tool and version.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use model::{Error, code};

use super::command;

/// Part of every fingerprint, so that a new version of a tool builds again.
pub(crate) const VERSIONS: &str = "componentize-js 0.23.0, componentize-py 0.25.1";

pub(crate) const JS: &str = "componentize-js-0.23.0";
const JS_PACKAGE: &str = "@bytecodealliance/componentize-js@0.23.0";
pub(crate) const PYTHON: &str = "componentize-py-0.25.1";
const PYTHON_PACKAGE: &str = "componentize-py==0.25.1";

/// Where tools and WIT are kept: `TANGELO_CACHE`, else `tangelo` in the user's cache folder.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = folder("TANGELO_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("tangelo")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/tangelo")))
        .context("neither TANGELO_CACHE nor HOME says where to keep the builders' tools")?;
    let cache = std::path::absolute(cache)?;
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    Ok(cache)
}

/// The `componentize-js` command.
pub(crate) fn componentize_js(progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let folder = installed(JS, progress, |folder| {
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-save",
            "--loglevel=error",
            "--prefix",
        ]);
        command::run(npm.arg(folder).arg(JS_PACKAGE))
            .map_err(|error| missing("npm", "Node.js", &error))
    })?;
    Ok(folder.join("node_modules/.bin/componentize-js"))
}

/// The `componentize-py` command.
pub(crate) fn componentize_py(progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let folder = installed(PYTHON, progress, |folder| {
        let mut venv = Command::new("python3");
        command::run(venv.args(["-m", "venv"]).arg(folder))
            .map_err(|error| missing("python3 -m venv", "Python 3 with venv", &error))?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PYTHON_PACKAGE,
        ]);
        command::run(&mut pip).map_err(|error| missing("pip", "access to PyPI", &error))
    })?;
    Ok(folder.join("bin/componentize-py"))
}

fn missing(tool: &str, needs: &str, error: &anyhow::Error) -> anyhow::Error {
    let message =
        format!("this builder needs {needs}, but `{tool}` could not install what it uses: {error}");
    Error::new(code::BUILD_TOOL_MISSING, message).into()
}

/// The folder of a tool. Installing holds a lock, and its end is marked by a file, so that neither two builds at once
/// nor one that was interrupted leave half a tool.
fn installed(
    tool: &str,
    progress: &mut dyn FnMut(&str),
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let cache = cache()?;
    let (folder, whole) = (cache.join(tool), cache.join(format!("{tool}.installed")));
    if whole.exists() && folder.exists() {
        return Ok(folder);
    }
    let lock = File::create(cache.join(format!("{tool}.lock")))?;
    lock.lock()?;
    if whole.exists() && folder.exists() {
        return Ok(folder);
    }
    progress(&format!(
        "installing {tool} into {} (once)",
        cache.display()
    ));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    install(&folder)?;
    File::create(whole)?;
    Ok(folder)
}
