//! Takes the WIT of `wasi:http` out of the wasmtime-wasi-http crate that the server is built with, so that the builders
//! make components for exactly the interfaces that the server has. `TANGELO_WIT` names the folder where cargo cannot tell.
//! And embeds the pages of docs/errors.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=TANGELO_WIT");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    let folder = match std::env::var_os("TANGELO_WIT") {
        Some(folder) => PathBuf::from(folder),
        None => crate_folder("wasmtime-wasi-http")?.join("wit"),
    };
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let mut files = list(&folder, &folder)?;
    files.sort();
    let mut code = String::from("pub(crate) const FILES: &[(&str, &str)] = &[\n");
    let mut version = None;
    for file in &files {
        let text = fs::read_to_string(folder.join(file))?;
        version = version.or_else(|| version_in(&text));
        writeln!(code, "    ({file:?}, {text:?}),")?;
    }
    let version =
        version.ok_or_else(|| format!("no `package wasi:http@…` in {}", folder.display()))?;
    writeln!(code, "];\npub(crate) const VERSION: &str = {version:?};")?;
    fs::write(out.join("wit.rs"), code)?;
    fs::write(out.join("pages.rs"), pages(Path::new("../../docs/errors"))?)?;
    Ok(())
}

/// The pages of the error codes, for `tangelo explain`.
fn pages(folder: &Path) -> Result<String, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let code = path.file_stem().and_then(|name| name.to_str());
        files.push((
            code.ok_or("a page is named after its code")?.to_owned(),
            path,
        ));
    }
    files.sort();
    let mut code = String::from("pub(super) const PAGES: &[(&str, &str)] = &[\n");
    for (name, path) in files {
        writeln!(code, "    ({name:?}, {:?}),", fs::read_to_string(path)?)?;
    }
    code.push_str("];\n");
    Ok(code)
}

/// Where cargo unpacked a crate of this workspace's dependencies.
fn crate_folder(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").ok_or("cargo sets CARGO")?;
    let target = std::env::var_os("TARGET").ok_or("cargo sets TARGET")?;
    // Not offline: it looks at every dependency of the workspace, and not all of them were needed for this build.
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .arg("--filter-platform")
        .arg(&target)
        .output()?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("cargo metadata failed; set TANGELO_WIT instead: {told}").into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata lists packages")?;
    let manifest = packages
        .iter()
        .filter(|package| package["name"] == name)
        .find_map(|package| package["manifest_path"].as_str())
        .ok_or_else(|| format!("{name} is not among the dependencies"))?;
    let folder = Path::new(manifest)
        .parent()
        .ok_or("a manifest is in a folder")?;
    Ok(folder.to_owned())
}

/// The `.wit` files below `folder`, relative to `root`, with `/` between.
fn list(root: &Path, folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(list(root, &path)?);
        } else if path.extension().is_some_and(|extension| extension == "wit") {
            let relative = path.strip_prefix(root)?;
            files.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(files)
}

fn version_in(text: &str) -> Option<String> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("package wasi:http@"))?;
    Some(rest.trim_end_matches(';').trim().to_owned())
}
