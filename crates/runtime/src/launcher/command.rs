//! What can be asked of the launcher, and what it answers: commands, signals, exits, errors.

use std::{fmt, io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::limits::Limits;

/// How long a process that waits for nothing else may take to read who it is.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A program to start. The environment is exactly `env`, plus the launcher's mark.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// The program; a bare name is looked up in the `PATH` of `env`, `./x` relative to `cwd`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Its working folder.
    pub cwd: PathBuf,
    /// What it may take.
    #[serde(default)]
    pub limits: Limits,
    /// Whether it is a template: its standard input is then a socket to the launcher, by which instances are made of it.
    #[serde(default)]
    pub template: bool,
    /// Whether that one forks: then a fork is kept ready.
    #[serde(default)]
    pub forks: bool,
}

impl Command {
    /// A program without arguments or environment.
    pub fn new(program: impl Into<PathBuf>, cwd: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: cwd.into(),
            limits: Limits::default(),
            template: false,
            forks: false,
        }
    }

    /// The same with one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The same with one more variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A signal to all processes of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Please end.
    Term,
    /// End.
    Kill,
}

/// How an instance ended: by itself with a code, or by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel had ended a process of it because it needed more memory than its limit.
    #[serde(default)]
    pub out_of_memory: bool,
}

impl Exit {
    /// What is assumed of instances whose launcher is gone: it took them along.
    pub(crate) const KILLED: Self = Self {
        code: None,
        signal: Some(9),
        out_of_memory: false,
    };

    /// Whether it ended by itself with code 0.
    #[must_use]
    pub const fn success(self) -> bool {
        matches!(self.code, Some(0))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.out_of_memory {
            f.write_str("want of memory, ")?;
        }
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(6)) => f.write_str("signal 6 (abort)"),
            (None, Some(9)) => f.write_str("signal 9 (kill)"),
            (None, Some(11)) => f.write_str("signal 11 (segmentation fault)"),
            (None, Some(15)) => f.write_str("signal 15 (terminate)"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("an unknown end"),
        }
    }
}

/// Why something was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program (or no interpreter of its first line, or no such working folder).
    #[error("there is no program `{0}`")]
    NotFound(String),
    /// The system refused to start it.
    #[error("`{program}` cannot be started: {reason}")]
    Refused {
        /// The program.
        program: String,
        /// The system's reason.
        reason: String,
    },
    /// The launcher was told to stop, or the command was too large for it.
    #[error("the launcher takes no more commands")]
    Stopped,
    /// The launcher is gone and cannot be started again.
    #[error("the launcher cannot be started")]
    Launcher(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_read_as_people_expect() {
        let code = |code| Exit {
            code: Some(code),
            signal: None,
            out_of_memory: false,
        };
        assert_eq!(code(3).to_string(), "exit code 3");
        assert_eq!(Exit::KILLED.to_string(), "signal 9 (kill)");
        assert!(code(0).success() && !code(1).success() && !Exit::KILLED.success());
    }
}
