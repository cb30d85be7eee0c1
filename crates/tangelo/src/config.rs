//! The server's configuration: flag, environment, file, default, in that order, read once.
//!
//! The file is `tangelo.toml` in the data folder, or what `--config` names. Every default works with no file at all.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use model::{ByteSize, Limits, code, parse_duration};
use platform::crash::Crash;
use serde::Deserialize;

use crate::{
    certificates::{CertificateFiles, TlsFlags, TlsTable},
    failure::Coded,
    limits::LimitFlags,
    machine::{Machine, MachineFlags},
    secrets::SecretsFile,
};

/// Flags of `serve` and `up`; each has an environment variable and a key in the file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Flags {
    /// Address of the gateway [default: 127.0.0.1:8080]
    #[arg(long, env = "TANGELO_GATEWAY", value_name = "ADDR")]
    gateway: Option<SocketAddr>,
    #[command(flatten)]
    tls: TlsFlags,
    /// Address of the control API over TCP [default: 127.0.0.1:8081]
    #[arg(long, env = "TANGELO_CONTROL", value_name = "ADDR")]
    control: Option<SocketAddr>,
    /// Address of the AWS endpoint [default: 127.0.0.1:4566]
    #[arg(long, env = "TANGELO_AWS", value_name = "ADDR")]
    aws: Option<SocketAddr>,
    /// Address of the mesh, where workloads reach each other [default: 127.0.0.1:0]
    #[arg(long, env = "TANGELO_MESH", value_name = "ADDR")]
    mesh: Option<SocketAddr>,
    /// Threads of the data plane [default: one per core]
    #[arg(long, env = "TANGELO_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// How long traces and logs are kept [default: 7d]
    #[arg(long, env = "TANGELO_RETENTION", value_name = "DURATION")]
    retention: Option<String>,
    /// How much disk traces and logs may take [default: 1GiB]
    #[arg(long, env = "TANGELO_TELEMETRY_BYTES", value_name = "SIZE")]
    telemetry_bytes: Option<String>,
    /// Address where spans come in as OTLP/HTTP [default: 127.0.0.1:4318]
    #[arg(long, env = "TANGELO_OTLP_IN", value_name = "ADDR")]
    otlp_in: Option<SocketAddr>,
    /// How long it is remembered what each workload used [default: 90d]
    #[arg(long, env = "TANGELO_USAGE_RETENTION", value_name = "DURATION")]
    usage_retention: Option<String>,
    /// When to end without notice, for soaks: `commit:N`, `committed:N`, `recovery:N` or `relayed:N`
    #[arg(long, env = "TANGELO_CRASH_AT", hide = true)]
    crash_at: Option<Crash>,
    /// How many revisions of an app stay to roll back to, beside the live one [default: 50]
    #[arg(long, env = "TANGELO_KEEP_REVISIONS", value_name = "N")]
    keep_revisions: Option<u32>,
    /// Send all kept spans to this OTLP/HTTP collector, for example http://127.0.0.1:14318
    #[arg(long, env = "TANGELO_OTLP", value_name = "URL")]
    otlp: Option<String>,
    /// How long requests may take to finish when the server is told to stop [default: 10s]
    #[arg(long, env = "TANGELO_GRACE", value_name = "DURATION")]
    grace: Option<String>,
    /// Which table of limits holds: tangelo or aws [default: tangelo]
    #[arg(long, env = "TANGELO_PROFILE", value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Memory for request bodies that must be whole, all workloads together [default: 512MiB]
    #[arg(long, env = "TANGELO_BODY_BUFFERS", value_name = "SIZE")]
    pub(crate) body_buffers: Option<ByteSize>,
    /// Connections to the gateway that one client may have [default: 1000]
    #[arg(long, env = "TANGELO_CLIENT_CONNECTIONS", value_name = "N")]
    pub(crate) client_connections: Option<usize>,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    #[command(flatten)]
    machine: MachineFlags,
    /// A TOML file of secrets, NAME = "value" [default: secrets.toml in the data folder]
    #[arg(long, env = "TANGELO_SECRETS", value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// The configuration file [default: tangelo.toml in the data folder]
    #[arg(long, env = "TANGELO_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The data folder unless something else is said.
pub(crate) const DATA: &str = ".tangelo";

/// The file's keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    data: Option<PathBuf>,
    gateway: Option<SocketAddr>,
    tls: Option<TlsTable>,
    control: Option<SocketAddr>,
    aws: Option<SocketAddr>,
    mesh: Option<SocketAddr>,
    workers: Option<usize>,
    retention: Option<String>,
    telemetry_bytes: Option<String>,
    otlp_in: Option<SocketAddr>,
    usage_retention: Option<String>,
    keep_revisions: Option<u32>,
    otlp: Option<String>,
    grace: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) body_buffers: Option<String>,
    pub(crate) client_connections: Option<usize>,
    pub(crate) connections: Option<usize>,
    pub(crate) requests: Option<u32>,
    pub(crate) wasm_guests: Option<u32>,
    pub(crate) wasm_memory: Option<String>,
    pub(crate) wasi_preview3: Option<bool>,
    pub(crate) chain_depth: Option<u8>,
    cgroups: Option<PathBuf>,
    containers: Option<PathBuf>,
    secrets: Option<PathBuf>,
}

/// What holds.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) gateway: SocketAddr,
    pub(crate) tls: Option<CertificateFiles>,
    pub(crate) control: SocketAddr,
    pub(crate) aws: SocketAddr,
    pub(crate) mesh: SocketAddr,
    pub(crate) workers: usize,
    pub(crate) retention: Duration,
    pub(crate) telemetry_bytes: ByteSize,
    pub(crate) otlp_in: SocketAddr,
    pub(crate) usage_retention: Duration,
    /// When to end without notice, for soaks.
    pub(crate) crash: Crash,
    pub(crate) keep_revisions: u32,
    pub(crate) otlp: Option<String>,
    pub(crate) grace: Duration,
    pub(crate) limits: Limits,
    pub(crate) machine: Machine,
    pub(crate) secrets: SecretsFile,
    /// Each setting as text and where it came from, for `tangelo config`.
    pub(crate) origins: Vec<Origin>,
}

/// One setting, for people.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Origin {
    pub(crate) setting: &'static str,
    pub(crate) value: String,
    pub(crate) from: String,
}

impl Config {
    /// Reads everything there is to read; `data` is the folder that a flag or the environment names.
    pub(crate) fn read(data: Option<&Path>, flags: &Flags) -> Result<Self> {
        let inside = || data.unwrap_or_else(|| Path::new(DATA)).join("tangelo.toml");
        let path = flags.config.clone().unwrap_or_else(inside);
        let file = read_file(&path, flags.config.is_some())?;
        let (data, from) = match (data, &file.data) {
            (_, Some(_)) if flags.config.is_none() => fail!(
                BAD_CONFIG,
                "setting `data` in {}: the file in the data folder cannot say where that is; use --config FILE",
                path.display()
            ),
            (Some(data), _) => (data, "flag or environment".to_owned()),
            (None, Some(data)) => (data.as_path(), path.display().to_string()),
            (None, None) => (Path::new(DATA), "default".to_owned()),
        };
        // Workloads run in folders of their own: what they are told of this one must hold there too.
        let data = &std::path::absolute(data).context("the data folder has no absolute path")?;
        let mut pick = Picker {
            file: &path,
            origins: Vec::new(),
        };
        pick.origins.push(Origin {
            setting: "data",
            value: data.display().to_string(),
            from,
        });
        pick.config(flags.config.is_some());
        let limits = pick.limits(flags, &file)?;
        let config = Self {
            data: data.to_owned(),
            gateway: pick.of("gateway", flags.gateway, file.gateway, "127.0.0.1:8080")?,
            tls: pick.tls(&flags.tls, file.tls.as_ref())?,
            control: pick.of("control", flags.control, file.control, "127.0.0.1:8081")?,
            aws: pick.of("aws", flags.aws, file.aws, "127.0.0.1:4566")?,
            mesh: pick.of("mesh", flags.mesh, file.mesh, "127.0.0.1:0")?,
            workers: pick.of("workers", flags.workers, file.workers, &cores().to_string())?,
            retention: duration(
                "retention",
                &pick.of::<String>("retention", flags.retention.clone(), file.retention, "7d")?,
            )?,
            telemetry_bytes: pick
                .of::<String>(
                    "telemetry_bytes",
                    flags.telemetry_bytes.clone(),
                    file.telemetry_bytes,
                    "1GiB",
                )?
                .parse()
                .context("setting `telemetry_bytes`")?,
            otlp_in: pick.of("otlp_in", flags.otlp_in, file.otlp_in, "127.0.0.1:4318")?,
            crash: flags.crash_at.clone().unwrap_or_default(),
            usage_retention: duration(
                "usage_retention",
                &pick.of::<String>(
                    "usage_retention",
                    flags.usage_retention.clone(),
                    file.usage_retention,
                    "90d",
                )?,
            )?,
            keep_revisions: pick.of(
                "keep_revisions",
                flags.keep_revisions,
                file.keep_revisions,
                "50",
            )?,
            otlp: pick.optional("otlp", flags.otlp.clone(), file.otlp),
            grace: duration(
                "grace",
                &pick.of::<String>("grace", flags.grace.clone(), file.grace, "10s")?,
            )?,
            limits,
            machine: pick.machine(&flags.machine, file.cgroups, file.containers),
            secrets: pick.secrets(data, flags.secrets.clone(), file.secrets),
            origins: pick.origins,
        };
        if config.workers == 0 {
            fail!(BAD_CONFIG, "setting `workers` must be at least 1");
        }
        Ok(config)
    }
}

pub(crate) struct Picker<'a> {
    file: &'a Path,
    pub(crate) origins: Vec<Origin>,
}

impl Picker<'_> {
    pub(crate) fn of<T>(
        &mut self,
        setting: &'static str,
        flag: Option<T>,
        file: Option<T>,
        default: &str,
    ) -> Result<T>
    where
        T: std::str::FromStr + ToString,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let (value, from) = match (flag, file) {
            (Some(value), _) => (value, "flag or environment".to_owned()),
            (None, Some(value)) => (value, self.file.display().to_string()),
            (None, None) => (
                default
                    .parse()
                    .with_context(|| format!("default of `{setting}`"))?,
                "default".to_owned(),
            ),
        };
        self.origins.push(Origin {
            setting,
            value: value.to_string(),
            from,
        });
        Ok(value)
    }

    /// The file of secrets by its name: what is in it is nobody's to print.
    fn secrets(
        &mut self,
        data: &Path,
        flag: Option<PathBuf>,
        file: Option<PathBuf>,
    ) -> SecretsFile {
        let from = self.origin(flag.is_some(), file.is_some());
        let found = SecretsFile::new(data, flag.or(file));
        self.origins.push(Origin {
            setting: "secrets",
            value: found.shown(),
            from,
        });
        found
    }

    /// Where TLS is spoken, and with what.
    fn tls(
        &mut self,
        flags: &TlsFlags,
        file: Option<&TlsTable>,
    ) -> Result<Option<CertificateFiles>> {
        let files = CertificateFiles::new(flags, file)?;
        let shown = files.as_ref().map(CertificateFiles::shown);
        self.origins.push(Origin {
            setting: "tls",
            value: shown.unwrap_or_else(|| "off".to_owned()),
            from: self.origin(files.is_some() && file.is_none(), file.is_some()),
        });
        Ok(files)
    }

    /// The configuration file itself.
    fn config(&mut self, asked_for: bool) {
        let note = if self.file.is_file() {
            ""
        } else {
            " (none there)"
        };
        self.origins.push(Origin {
            setting: "config",
            value: format!("{}{note}", self.file.display()),
            from: self.origin(asked_for, false),
        });
    }

    pub(crate) fn origin(&self, flag: bool, file: bool) -> String {
        match (flag, file) {
            (true, _) => "flag or environment".to_owned(),
            (false, true) => self.file.display().to_string(),
            (false, false) => "default".to_owned(),
        }
    }

    fn optional(
        &mut self,
        setting: &'static str,
        flag: Option<String>,
        file: Option<String>,
    ) -> Option<String> {
        let from = self.origin(flag.is_some(), file.is_some());
        let value = flag.or(file);
        self.origins.push(Origin {
            setting,
            value: value.clone().unwrap_or_else(|| "off".to_owned()),
            from,
        });
        value
    }
}

fn read_file(path: &Path, asked_for: bool) -> Result<File> {
    use std::io::ErrorKind::NotFound;
    let name = path.display();
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).coded(code::BAD_CONFIG, || {
            format!("{name} is not a configuration")
        }),
        Err(error) if error.kind() == NotFound && !asked_for => Ok(File::default()),
        Err(error) => Err(error).coded(code::BAD_CONFIG, || format!("cannot read {name}")),
    }
}

fn duration(setting: &str, text: &str) -> Result<Duration> {
    parse_duration(text).coded(code::BAD_CONFIG, || format!("setting `{setting}`"))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Variables beside those of the flags: of the log, of builders, of the launcher, and what workloads are given (one may run
/// the command line).
const OTHER_VARIABLES: &[&str] = &[
    "TANGELO_LOG",
    "TANGELO_CACHE",
    "TANGELO_WIT",
    "TANGELO_LAUNCHER",
    "TANGELO_INSIDE_LAUNCHER",
    "TANGELO_MATERIAL",
    "TANGELO_MESH_URL",
    "TANGELO_EVENTS_URL",
    "TANGELO_INBOX_URL",
    "TANGELO_PROJECTIONS_URL",
    "TANGELO_STREAMS_URL",
    "TANGELO_STATE_DIR",
];

/// Says on stderr which of `set` look like settings of Tangelo and are none; `command` knows those of the flags.
pub(crate) fn warn_of_variables(
    command: &clap::Command,
    set: impl Iterator<Item = std::ffi::OsString>,
) {
    for name in set.filter_map(|name| name.into_string().ok()) {
        if let Some(told) = told_of_variable(command, &name) {
            anstream::eprintln!("warning: {told} [TG0902]");
        }
    }
}

fn told_of_variable(command: &clap::Command, name: &str) -> Option<String> {
    name.strip_prefix("TANGELO_")?;
    let flags = command.get_subcommands().chain([command]);
    let flags = flags.flat_map(clap::Command::get_arguments);
    let flags = flags.filter_map(|flag| flag.get_env()?.to_str());
    let known: Vec<&str> = flags.chain(OTHER_VARIABLES.iter().copied()).collect();
    if known.contains(&name) {
        return None;
    }
    Some(match manifest::nearest(name, known) {
        Some(nearest) => format!("the variable {name} means nothing: did you mean {nearest}?"),
        None => format!("the variable {name} means nothing: see `tangelo serve --help`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_mean_nothing_are_told_with_the_nearest() {
        let command = <crate::commands::Cli as clap::CommandFactory>::command();
        let told = |name| told_of_variable(&command, name);
        for fine in ["TANGELO_GATEWAY", "TANGELO_DATA", "TANGELO_LOG", "PATH"] {
            assert_eq!(told(fine), None);
        }
        let wrong = told("TANGELO_GATWAY").expect("is told");
        assert!(wrong.ends_with("did you mean TANGELO_GATEWAY?"), "{wrong}");
        assert!(told("TANGELO_SOMETHING_ELSE").is_some());
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(
            folder.path().join("tangelo.toml"),
            "gateway = \"127.0.0.1:1\"\naws = \"127.0.0.1:2\"\n",
        )
        .expect("writes");
        let flags = Flags {
            gateway: Some("127.0.0.1:9".parse().expect("is one")),
            ..Flags::default()
        };
        let config = Config::read(Some(folder.path()), &flags).expect("is good");
        assert_eq!(
            (
                config.gateway.port(),
                config.aws.port(),
                config.control.port()
            ),
            (9, 2, 8081)
        );
        let from = |setting| {
            config
                .origins
                .iter()
                .find(|o| o.setting == setting)
                .map(|o| o.from.clone())
                .unwrap_or_default()
        };
        assert_eq!(from("gateway"), "flag or environment");
        assert!(from("aws").ends_with("tangelo.toml"));
        assert_eq!(from("control"), "default");
        assert_eq!(from("secrets"), "default");
        let config = config.origins.iter().find(|o| o.setting == "config");
        assert!(config.is_some_and(|o| o.value.ends_with("tangelo.toml")));
    }

    #[test]
    fn a_data_folder_is_the_same_from_everywhere() {
        let config = Config::read(Some(Path::new("d1")), &Flags::default()).expect("is good");
        assert!(config.data.is_absolute() && config.data.ends_with("d1"));
    }

    #[test]
    fn a_file_may_name_the_data_folder_and_a_flag_wins() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("tangelo.toml");
        std::fs::write(&file, "data = \"/srv/tangelo\"\n").expect("writes");
        let flags = Flags {
            config: Some(file),
            ..Flags::default()
        };
        let data = |given| Config::read(given, &flags).expect("is good").data;
        assert_eq!(data(None), Path::new("/srv/tangelo"));
        assert_eq!(data(Some(Path::new("/d1"))), Path::new("/d1"));
        let inside = Config::read(Some(folder.path()), &Flags::default());
        let error = inside.expect_err("it is in the folder that it names");
        assert!(error.to_string().contains("--config"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("tangelo.toml");
        std::fs::write(file, "gatway = \"127.0.0.1:1\"\n").expect("writes");
        let error = Config::read(Some(folder.path()), &Flags::default()).expect_err("is wrong");
        assert!(format!("{error:#}").contains("gatway"), "{error:#}");
    }
}
