//! A Postgres server of a test's own: Debian's, in a temporary folder on a free port, as a user that is not root (it refuses to
//! run as root). Gone with its folder when dropped.
//!
//! Compiled into `xtask`, too, whose soaks kill one: so it needs no other crate than `anyhow`.

use std::{
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// The user that runs it when the tests are root: Debian's `postgres`, and else nobody.
const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server with the role `postgres` and the database `postgres`. It lets everyone in but a role `guarded`, if one is made:
/// who says so must know its password.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Child,
}

impl Postgres {
    /// Starts one; `None`, said on stderr, where the machine has none.
    ///
    /// # Panics
    /// When there is one and it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("SKIPPED: this machine has no postgres (Debian: apt-get install postgresql)");
            return None;
        };
        Some(Self::create(programs).expect("a server starts"))
    }

    fn create(programs: PathBuf) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let name = format!("tangelo-postgres-{}-{port}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder)?;
        if let Some(user) = user() {
            std::os::unix::fs::chown(&folder, Some(user), None)?;
        }
        let data = folder.join("data");
        let made = as_user(&programs.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args([
                "-U",
                "postgres",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .current_dir(&folder)
            .output()?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "initdb failed: {said}");
        // The first line that matches counts.
        let rules =
            "host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
        std::fs::write(data.join("pg_hba.conf"), rules)?;
        let child = run(&programs, &folder, port)?;
        let server = Self {
            programs,
            folder,
            port,
            child,
        };
        server.wait()?;
        Ok(server)
    }

    /// Its URL for the role `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs statements with `psql`; what they print, without decoration.
    ///
    /// # Errors
    /// With what it said, when one fails.
    pub fn psql(&self, statements: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command
            .args(["--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .arg(self.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("psql")?;
        let mut input = child.stdin.take().context("its input was piped")?;
        std::io::Write::write_all(&mut input, statements.as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "psql failed: {said}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Lets it speak TLS with a certificate and its key, both PEM, from its next start on, which is now.
    ///
    /// # Errors
    /// When it does not start with them.
    pub fn speak_tls(&mut self, certificate: &str, key: &str) -> Result<()> {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.folder.join("data").join(name);
            std::fs::write(&file, text)?;
            // It takes no key that others may read.
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
            if let Some(user) = user() {
                std::os::unix::fs::chown(&file, Some(user), None)?;
            }
        }
        self.psql("ALTER SYSTEM SET ssl = on")?;
        self.kill()?;
        self.restart()
    }

    /// Ends it at once, as `pg_ctl stop -m immediate` does: it recovers when it is started again.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        quit(&mut self.child)
    }

    /// Starts it again on the same folder and port.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn restart(&mut self) -> Result<()> {
        self.child = run(&self.programs, &self.folder, self.port)?;
        self.wait()
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "it waits for another process in real time"
    )]
    fn wait(&self) -> Result<()> {
        let begun = Instant::now();
        // Each look is a process: that is pause enough.
        loop {
            if self.psql("SELECT 1").is_ok() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.folder.join("log"));
                bail!("postgres does not answer: {}", log.unwrap_or_default());
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = quit(&mut self.child);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// All its processes go with it, which a `kill -9` of the first one would leave to find out by themselves.
fn quit(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_none() {
        Command::new("kill")
            .args(["-QUIT", &child.id().to_string()])
            .status()?;
        child.wait()?;
    }
    Ok(())
}

fn run(programs: &Path, folder: &Path, port: u16) -> Result<Child> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    let child = as_user(&programs.join("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string()])
        .args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
        ])
        .args(["-c", "wal_level=logical", "-c", "max_connections=40"])
        .args(["-c", "shared_buffers=16MB"])
        .current_dir(folder)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user() {
        command.uid(user);
    }
    command.stdin(Stdio::null());
    command
}

/// The user to become, where the tests are root.
fn user() -> Option<u32> {
    let ours = std::fs::metadata("/proc/self").map(|data| data.uid());
    (ours.ok() == Some(0)).then(|| {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let line = passwd.lines().find(|line| line.starts_with("postgres:"));
        let id = line.and_then(|line| line.split(':').nth(2)?.parse().ok());
        id.unwrap_or(NOBODY)
    })
}

/// The folder with `initdb`, `postgres` and `psql`: Debian's, of the newest version, or where the path has them.
fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut versions: Vec<_> = debian
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    versions.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let all = versions
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&on_path));
    let mut whole = all.filter(|folder| {
        ["initdb", "postgres", "psql"]
            .iter()
            .all(|name| folder.join(name).is_file())
    });
    whole.next()
}
