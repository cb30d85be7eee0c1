//! The server's process and its data folder.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;

/// Where a server listens, as its ready line says.
#[derive(Debug, Clone, Deserialize)]
pub struct Addresses {
    /// The gateway's URL.
    pub gateway: String,
    /// The gateway's URL with TLS, where it speaks that.
    #[serde(default)]
    pub tls: Option<String>,
    /// The control API's URL.
    pub control: String,
    /// The AWS door's URL.
    pub aws: String,
    /// The mesh's URL.
    pub mesh: String,
    /// The URL where spans come in.
    pub otlp: String,
}

/// A running server; killed with -9 when dropped.
pub struct Server {
    /// What runs the executable, with its arguments; empty: nothing.
    runner: Vec<String>,
    executable: PathBuf,
    folder: TempDir,
    flags: Vec<String>,
    child: Child,
    addresses: Addresses,
}

impl Server {
    /// Starts `executable` in a new data folder, every door on a free port.
    ///
    /// # Errors
    /// When it does not become ready; what it wrote is in the error.
    pub fn start(executable: &str) -> Result<Self> {
        Self::start_with(executable, &[])
    }

    /// The same with more flags for `serve`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_with(executable: &str, flags: &[&str]) -> Result<Self> {
        Self::start_by(&[], executable, flags)
    }

    /// The same, run by a program that takes the command as its last arguments and becomes it, as `strace -D` does.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_by(runner: &[String], executable: &str, flags: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let executable = PathBuf::from(executable);
        let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
        let (child, addresses) = spawn(runner, &executable, folder.path(), &flags)?;
        Ok(Self {
            runner: runner.to_vec(),
            executable,
            folder,
            flags,
            child,
            addresses,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for an app beside the data folder.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.folder.path().join("app")
    }

    /// A client of its gateway.
    #[must_use]
    pub fn gateway(&self) -> Client {
        Client::new(&self.addresses.gateway)
    }

    /// A client of its control port, without the operator's token.
    #[must_use]
    pub fn control(&self) -> Client {
        Client::new(&self.addresses.control)
    }

    /// A client of its AWS door.
    #[must_use]
    pub fn aws(&self) -> Client {
        Client::new(&self.addresses.aws)
    }

    /// Kills it with -9 and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Tells it to stop, and does not wait.
    ///
    /// # Errors
    /// When it is gone.
    pub fn tell_to_stop(&self) -> Result<()> {
        signal(&self.child, Signal::TERM)
    }

    /// Tells it to read its files again, and does not wait.
    ///
    /// # Errors
    /// When it is gone.
    pub fn hang_up(&self) -> Result<()> {
        signal(&self.child, Signal::HUP)
    }

    /// Ctrl-C, and does not wait.
    ///
    /// # Errors
    /// When it is gone.
    pub fn interrupt(&self) -> Result<()> {
        interrupt(&self.child)
    }

    /// Waits until it has ended, as it was told to.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn ended(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Tells it to stop, and waits until it has.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(&mut self) -> Result<()> {
        self.tell_to_stop()?;
        self.ended()
    }

    /// Starts it again on the same folder, after [`Server::kill`] or [`Server::stop`].
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn restart(&mut self) -> Result<()> {
        let folder = self.folder.path();
        let (child, addresses) = spawn(&self.runner, &self.executable, folder, &self.flags)?;
        self.child = child;
        self.addresses = addresses;
        Ok(())
    }

    /// The same with other flags for `serve`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn restart_with(&mut self, flags: &[&str]) -> Result<()> {
        self.flags = flags.iter().map(|f| (*f).to_owned()).collect();
        self.restart()
    }

    /// Runs the command line against this server.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    /// The command line against this server, not yet run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .arg("--data")
            .arg(self.data())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs the command line with `--json`, wants success, and reads what it printed.
    ///
    /// # Errors
    /// With what it wrote to stderr, when it fails.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.cli(&[&["--json"], arguments].concat())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "tangelo {arguments:?} failed: {stderr}"
        );
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("tangelo {arguments:?} printed no JSON"))
    }

    /// Writes `files` (path and text) as an app and deploys it.
    ///
    /// # Errors
    /// When the deploy fails.
    pub fn deploy(&self, files: &[(&str, &str)]) -> Result<Value> {
        let folder = self.scratch();
        for (path, text) in files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
            std::fs::write(path, text)?;
        }
        self.deploy_folder(&folder)
    }

    /// Deploys the app in `folder`.
    ///
    /// # Errors
    /// When the deploy fails.
    pub fn deploy_folder(&self, folder: &Path) -> Result<Value> {
        self.json(&["deploy", folder.to_str().context("a path in UTF-8")?])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ctrl-C for a process.
///
/// # Errors
/// When it is gone.
pub fn interrupt(child: &Child) -> Result<()> {
    signal(child, Signal::INT)
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has a number")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

fn spawn(
    runner: &[String],
    executable: &Path,
    folder: &Path,
    flags: &[String],
) -> Result<(Child, Addresses)> {
    let any = "127.0.0.1:0";
    let log = std::fs::File::create(folder.join("server.log"))?;
    let mut command = match runner {
        [] => Command::new(executable),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(executable);
            command
        }
    };
    command
        .arg("--json")
        .arg("--data")
        .arg(folder.join("data"))
        .arg("serve");
    command
        .args([
            "--gateway",
            any,
            "--control",
            any,
            "--aws",
            any,
            "--otlp-in",
            any,
            "--workers",
            "2",
        ])
        .args(flags);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let ready = serde_json::from_str(&line).with_context(|| {
        let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
        format!("the server did not become ready: {line}{log}")
    });
    if ready.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok((child, ready?))
}
