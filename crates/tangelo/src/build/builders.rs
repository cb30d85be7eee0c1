//! The builders: each makes one artifact from its inputs, and writes it in one step.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use model::{Build, Error, Workload, code};
use serde_json::Value;

use super::{command, output, tools, wit};

const TARGET: &str = "wasm32-wasip2";

/// Builds; answers with inputs that the builder found, relative to `folder` where they are below it.
pub(crate) fn run(
    folder: &Path,
    workload: &Workload,
    build: &Build,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<String>> {
    let output = std::path::absolute(folder.join(output(workload, build)))?;
    if let Some(parent) = output.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
    }
    match build {
        Build::Rust { package } => rust(&folder.join(package), folder, &output, progress),
        Build::Js { source } => js(folder, source, &output, progress),
        Build::Python { source, module } => python(folder, source, module, &output, progress),
        Build::Command { command, .. } => custom(folder, command),
    }
}

fn rust(
    package: &Path,
    folder: &Path,
    output: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<String>> {
    if !package.join("Cargo.toml").exists() {
        let message = format!("there is no Cargo.toml in {}", package.display());
        return Err(Error::new(code::ARTIFACT_MISSING, message).into());
    }
    let mut built = cargo(package);
    if let Err(error) = &built
        && error
            .to_string()
            .contains(&format!("rustup target add {TARGET}"))
    {
        progress(&format!(
            "adding the target {TARGET} to the Rust toolchain (once)"
        ));
        command::run(
            Command::new("rustup")
                .args(["target", "add", TARGET])
                .current_dir(package),
        )
        .map_err(|error| Error::new(code::BUILD_TOOL_MISSING, error.to_string()))?;
        built = cargo(package);
    }
    let component = component_of(&built?, package)?;
    replace(&component, output)?;
    Ok(dependencies(&component, package, folder))
}

fn cargo(package: &Path) -> Result<Vec<u8>> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--release",
        "--message-format=json-render-diagnostics",
        "--target",
        TARGET,
    ]);
    // What `cargo run` tells the program that it runs means something else to a cargo below it.
    let of_run = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if of_run.iter().any(|start| name.starts_with(start)) {
            cargo.env_remove(&*name);
        }
    }
    cargo.current_dir(package);
    command::run_for_output(&mut cargo)
}

/// The `.wasm` that cargo made of `package` itself, out of its JSON messages.
fn component_of(messages: &[u8], package: &Path) -> Result<PathBuf> {
    let manifest = package.join("Cargo.toml").canonicalize()?;
    let made = messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| {
            let path = message["manifest_path"].as_str().map(Path::new);
            path.and_then(|path| path.canonicalize().ok()).as_ref() == Some(&manifest)
        })
        .filter_map(|message| {
            let files = message["filenames"].as_array()?.clone();
            files
                .iter()
                .filter_map(Value::as_str)
                .find(|file| file.ends_with(".wasm"))
                .map(PathBuf::from)
        })
        .next_back();
    made.ok_or_else(|| {
        let message = format!(
            "cargo made no component of {}: it needs a program, or a library with `crate-type = [\"cdylib\"]`",
            package.display()
        );
        Error::new(code::BUILD_FAILED, message).into()
    })
}

/// The sources outside of the package that cargo names in its dep-info: path dependencies.
fn dependencies(component: &Path, package: &Path, folder: &Path) -> Vec<String> {
    let Ok(info) = std::fs::read_to_string(component.with_extension("d")) else {
        return Vec::new();
    };
    let (package, folder) = (absolute(package), absolute(folder));
    let sources = info.lines().flat_map(|line| {
        line.split_once(": ")
            .map_or("", |(_, sources)| sources)
            .split(' ')
    });
    sources
        .map(Path::new)
        .filter(|source| source.is_absolute() && !source.starts_with(&package))
        .map(|source| {
            source
                .strip_prefix(&folder)
                .unwrap_or(source)
                .display()
                .to_string()
        })
        .collect()
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn js(
    folder: &Path,
    source: &str,
    output: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<String>> {
    let tool = tools::componentize_js(progress)?;
    let wit = wit::folder_for_js(&tools::cache()?)?;
    let beside = beside(output);
    let mut componentize = Command::new(tool);
    componentize
        .arg(source)
        .args(["--world-name", "wasi:http/proxy", "--wit"])
        .arg(wit);
    let ran = command::run(componentize.arg("--out").arg(&beside).current_dir(folder));
    ran.map_err(|error| syntax_error(&folder.join(source)).unwrap_or(error))?;
    std::fs::rename(&beside, output)?;
    Ok(Vec::new())
}

/// What Node.js says of a module that is not JavaScript: componentize-js only counts such mistakes.
fn syntax_error(source: &Path) -> Option<anyhow::Error> {
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--check", "-"]);
    let error = command::run_reading(&mut node, std::fs::File::open(source).ok()?).err()?;
    let error = error.downcast::<Error>().ok()?;
    let message = error
        .message
        .replace("[stdin]", &source.display().to_string());
    Some(Error { message, ..error }.into())
}

fn python(
    folder: &Path,
    source: &str,
    module: &str,
    output: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<String>> {
    let tool = tools::componentize_py(progress)?;
    let wit = wit::folder(&tools::cache()?)?;
    let beside = beside(output);
    let mut componentize = Command::new(tool);
    componentize
        .arg("--quiet")
        .arg("--wit-path")
        .arg(wit)
        .arg("--world")
        .arg(wit::world());
    componentize.args(["componentize", "--python-path", source, module]);
    command::run(
        componentize
            .arg("--output")
            .arg(&beside)
            .current_dir(folder),
    )?;
    std::fs::rename(&beside, output)?;
    Ok(Vec::new())
}

fn custom(folder: &Path, words: &[String]) -> Result<Vec<String>> {
    let (program, arguments) = words
        .split_first()
        .context("a manifest's command is never empty")?;
    let program = match program.strip_prefix("./") {
        Some(file) => std::path::absolute(folder.join(file))?,
        None => PathBuf::from(program),
    };
    command::run(Command::new(program).args(arguments).current_dir(folder))?;
    Ok(Vec::new())
}

/// Copies in one step: a server that watches sees the old file or the new one, never a part.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let beside = beside(to);
    std::fs::copy(from, &beside).with_context(|| format!("cannot copy {}", from.display()))?;
    std::fs::rename(&beside, to).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension(format!("new-{}", std::process::id()))
}
