//! What the commands need beyond cargo itself, installed below the target folder where it is missing.
//!
//! Cargo's tools are built without optimisation: measured on two cores, `cargo-deny` takes 1½ minutes instead
//! of 6, and runs once. Versions are pinned here and in the lock files beside the tests.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::{
    shell,
    workspace::{Workspace, cargo},
};

/// A command that cargo runs as `cargo NAME`.
pub(crate) struct CargoTool {
    pub(crate) name: &'static str,
    version: &'static str,
}

pub(crate) const NEXTEST: CargoTool = CargoTool {
    name: "nextest",
    version: "0.9.143",
};
pub(crate) const DENY: CargoTool = CargoTool {
    name: "deny",
    version: "0.20.2",
};
pub(crate) const FUZZ: CargoTool = CargoTool {
    name: "fuzz",
    version: "0.13.2",
};
pub(crate) const MACHETE: CargoTool = CargoTool {
    name: "machete",
    version: "0.9.2",
};

/// What became of a tool.
pub(crate) enum Found {
    /// It is there, or was installed.
    Ready,
    /// It is not, and no registry can be reached to install it from.
    Offline,
}

impl CargoTool {
    /// Makes sure that it can be run.
    ///
    /// # Errors
    /// When it cannot be built although the registry answers.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> anyhow::Result<Found> {
        if self.works(workspace) {
            return Ok(Found::Ready);
        }
        eprintln!("installing cargo-{} {}", self.name, self.version);
        let root = workspace.tools();
        let package = format!("cargo-{}", self.name);
        let installed = shell::run(
            shell::command(
                cargo(),
                &[
                    "install",
                    "--locked",
                    "--debug",
                    &package,
                    "--version",
                    self.version,
                ],
                &std::env::temp_dir(),
            )
            .arg("--root")
            .arg(&root)
            .env("CARGO_TARGET_DIR", root.join("build")),
        );
        // Intermediate artifacts are hundreds of megabytes and never used again.
        let _ = fs::remove_dir_all(root.join("build"));
        match installed {
            Ok(()) => Ok(Found::Ready),
            Err(_) if !registry_answers() => Ok(Found::Offline),
            Err(error) => Err(error),
        }
    }

    /// Whether `cargo NAME` runs.
    pub(crate) fn works(&self, workspace: &Workspace) -> bool {
        shell::works(&mut self.command(workspace, &["--version"]))
    }

    /// `cargo NAME …` in the root, with our own tools first on the path.
    pub(crate) fn command(
        &self,
        workspace: &Workspace,
        arguments: &[&str],
    ) -> std::process::Command {
        let mut command = command(workspace, cargo(), &[self.name]);
        command.args(arguments);
        command
    }
}

/// `program …` in the root, with our own tools first on the path.
pub(crate) fn command(
    workspace: &Workspace,
    program: impl AsRef<OsStr>,
    arguments: &[&str],
) -> std::process::Command {
    let mut command = shell::command(program, arguments, &workspace.root);
    command.env("PATH", path_with(&[workspace.tools().join("bin")]));
    command
}

/// Packages that tests run against, as the lock files in `from` say.
struct Packages {
    /// Relative to the root: `requirements.txt` or `package.json` with its lock, or both.
    from: PathBuf,
    /// Below the tools folder: `venv/` and `node_modules/`.
    into: PathBuf,
}

/// Installs the packages of every folder `crates/*/tests/clients`, each into `target/tools/CRATE`.
///
/// # Errors
/// When an installation fails; the error says which.
pub(crate) fn install_packages(workspace: &Workspace) -> anyhow::Result<()> {
    for packages in all_packages(workspace) {
        python(workspace, &packages)?;
        node(workspace, &packages)?;
    }
    Ok(())
}

fn all_packages(workspace: &Workspace) -> Vec<Packages> {
    let crates = fs::read_dir(workspace.root.join("crates"));
    let mut found: Vec<Packages> = crates
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| Packages {
            from: entry.path().join("tests/clients"),
            into: workspace.tools().join(entry.file_name()),
        })
        .filter(|packages| packages.from.is_dir())
        .collect();
    found.sort_by(|a, b| a.from.cmp(&b.from));
    found
}

fn python(workspace: &Workspace, packages: &Packages) -> anyhow::Result<()> {
    let wanted = packages.from.join("requirements.txt");
    let venv = packages.into.join("venv");
    if !wanted.is_file() || is_current(&wanted, &venv) {
        return Ok(());
    }
    eprintln!("installing {}", workspace.short(&wanted).display());
    fs::create_dir_all(&packages.into)?;
    let folder = &packages.into;
    shell::run(&mut shell::command(
        "python3",
        &["-m", "venv", "--clear", "venv"],
        folder,
    ))?;
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
    ];
    shell::run(shell::command(venv.join("bin/python"), &install, folder).arg(&wanted))?;
    mark_current(&wanted, &venv)
}

fn node(workspace: &Workspace, packages: &Packages) -> anyhow::Result<()> {
    let wanted = packages.from.join("package-lock.json");
    let modules = packages.into.join("node_modules");
    if !wanted.is_file() || is_current(&wanted, &modules) {
        return Ok(());
    }
    eprintln!("installing {}", workspace.short(&wanted).display());
    fs::create_dir_all(&packages.into)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(packages.from.join(name), packages.into.join(name))
            .with_context(|| format!("{name} beside {}", wanted.display()))?;
    }
    let mut install = shell::command("npm", &["ci", "--no-audit", "--no-fund"], &packages.into);
    // A native module such as aws-lambda-ric builds with cmake; a venv may have it where the machine does not.
    install.env("PATH", path_with(&[packages.into.join("venv/bin")]));
    shell::run(&mut install)?;
    mark_current(&wanted, &modules)
}

/// Installed from exactly this lock file: a copy of it lies in the folder.
fn is_current(wanted: &Path, folder: &Path) -> bool {
    let stamp = fs::read(folder.join(".installed-from"));
    stamp.is_ok_and(|stamp| fs::read(wanted).is_ok_and(|wanted| wanted == stamp))
}

fn mark_current(wanted: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::copy(wanted, folder.join(".installed-from"))?;
    Ok(())
}

/// Makes sure that Wasm guests can be compiled.
///
/// # Errors
/// When the target is missing and rustup cannot add it.
pub(crate) fn wasm_target(workspace: &Workspace) -> anyhow::Result<()> {
    let target = "wasm32-wasip2";
    let root = &workspace.root;
    let sysroot = shell::output(&mut shell::command("rustc", &["--print", "sysroot"], root))?;
    if Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(target)
        .is_dir()
    {
        return Ok(());
    }
    shell::run(&mut shell::command(
        "rustup",
        &["target", "add", target],
        root,
    ))
}

/// Programs of the machine that nothing here installs.
///
/// # Errors
/// Names the ones that are missing.
pub(crate) fn machine(workspace: &Workspace) -> anyhow::Result<()> {
    let needed = ["python3", "node", "npm", "cc", "curl"];
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|name| !shell::works(&mut shell::command(name, &["--version"], &workspace.root)))
        .collect();
    if !missing.is_empty() {
        bail!(
            "this machine has no {}; install it and try again",
            missing.join(", no ")
        );
    }
    Ok(())
}

/// Installs what some tests need of the machine, where that can be done: `strace`, which shows what the server does before
/// it acknowledges, Podman and Docker with busybox, which run containers, and Postgres, whose rows are relayed.
pub(crate) fn of_the_machine(workspace: &Workspace) {
    let root = &workspace.root;
    if !cfg!(target_os = "linux") {
        return;
    }
    let strace = !shell::works(&mut shell::command("strace", &["-V"], root));
    let podman = !["/usr/bin/podman", "/usr/sbin/runc", "/bin/busybox"]
        .iter()
        .all(|file| Path::new(file).exists());
    let mut packages = Vec::new();
    packages.extend(strace.then_some("strace"));
    // Its package may start a server, which nothing here uses: tests start their own.
    let postgres = Path::new("/usr/lib/postgresql").is_dir();
    packages.extend((!postgres).then_some("postgresql"));
    packages.extend(
        ["podman", "runc", "busybox-static"]
            .iter()
            .filter(|_| podman),
    );
    install_or_say(root, &packages);
    // By itself: where it cannot be installed, the others still are. Its makers' own package puts the daemon elsewhere.
    let docker = ["/usr/sbin/dockerd", "/usr/bin/dockerd"];
    if !docker.iter().any(|file| Path::new(file).exists()) {
        keep_docker_down(root);
        install_or_say(root, &["docker.io"]);
    }
}

fn install_or_say(root: &Path, packages: &[&str]) {
    if packages.is_empty() {
        return;
    }
    if let Err(error) = install(root, packages) {
        eprintln!("what could not be installed is missed by tests, which are skipped: {error:#}");
    }
}

/// Keeps systemd from starting a daemon for the whole machine when its package is installed, until the machine starts again: tests
/// start their own. Where there is no systemd, nothing would be started.
fn keep_docker_down(root: &Path) {
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let mask = ["mask", "--runtime", "docker.service", "docker.socket"];
    if let Err(error) = shell::run(&mut shell::command("systemctl", &mask, root)) {
        eprintln!("a Docker of the machine's own may be started: {error:#}");
    }
}

/// Installs those of these Debian packages whose program, of the same name, is not there.
///
/// # Errors
/// Says how to install what it could not.
pub(crate) fn programs(workspace: &Workspace, packages: &[&str]) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let is_there = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    let missing: Vec<_> = packages
        .iter()
        .copied()
        .filter(|name| !is_there(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&workspace.root, &missing).with_context(|| {
        let all = missing.join(" ");
        format!("this machine lacks what it is measured against or with: apt-get install {all}")
    })
}

fn install(root: &Path, packages: &[&str]) -> anyhow::Result<()> {
    eprintln!("installing {}", packages.join(", "));
    shell::run(&mut shell::command("apt-get", &["update", "-qq"], root))?;
    // What is there stays: some of these would take the place of what others made.
    let options = [
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "--no-remove",
    ];
    let all = [&options[..], packages].concat();
    shell::run(&mut shell::command("apt-get", &all, root))
}

/// The path with `folders` before it.
pub(crate) fn path_with(folders: &[PathBuf]) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().cloned().chain(std::env::split_paths(&path));
    std::env::join_paths(all).unwrap_or(path)
}

/// Whether cargo's registry answers.
fn registry_answers() -> bool {
    let lookup = shell::command(
        cargo(),
        &["info", "--quiet", "cargo-nextest"],
        &std::env::temp_dir(),
    )
    .stdout(std::process::Stdio::null())
    .status();
    lookup.is_ok_and(|status| status.success())
}
