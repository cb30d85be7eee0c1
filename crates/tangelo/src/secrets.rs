//! The file of secrets: read at the start, and again whenever it has changed or the server gets SIGHUP.
//!
//! Instances that run keep what they were started with; whoever starts later gets the new values. A file that cannot be
//! read changes nothing.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use access::Secrets;
use anyhow::Result;
use model::{Clock, code};

use crate::{
    failure::{Coded, failure},
    follow,
};

/// Where secrets are read from.
#[derive(Debug, Clone)]
pub(crate) struct SecretsFile {
    path: PathBuf,
    /// Whether somebody named it: then it must be there.
    asked_for: bool,
}

impl SecretsFile {
    /// What `named` says, else `secrets.toml` in the data folder.
    pub(crate) fn new(data: &Path, named: Option<PathBuf>) -> Self {
        Self {
            asked_for: named.is_some(),
            path: named.unwrap_or_else(|| data.join("secrets.toml")),
        }
    }

    /// Its path, for people.
    pub(crate) fn shown(&self) -> String {
        let note = if self.path.is_file() {
            ""
        } else {
            " (none there)"
        };
        format!("{}{note}", self.path.display())
    }

    /// Names and values.
    pub(crate) fn read(&self) -> Result<BTreeMap<String, String>> {
        let path = self.path.display();
        match std::fs::read_to_string(&self.path) {
            // The parser's message would quote the line, and with it the secret.
            Ok(text) => toml::from_str(&text).map_err(|_| {
                failure(
                    code::BAD_CONFIG,
                    format!("{path} is not TOML of NAME = \"value\""),
                )
            }),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.asked_for => {
                Ok(BTreeMap::new())
            }
            Err(error) => Err(error).coded(code::BAD_CONFIG, || format!("cannot read {path}")),
        }
    }

    /// Keeps `secrets` as the file has them. Does not end.
    pub(crate) async fn follow(self, secrets: Secrets, clock: Clock) {
        let read_again = || match self.read() {
            Ok(values) => {
                secrets.replace(values);
                tracing::info!(file = %self.path.display(), "secrets were read again");
            }
            Err(error) => tracing::warn!("{error:#}: the secrets stay as they were"),
        };
        follow::changes(&clock, || follow::stamp(&self.path), read_again).await;
    }
}
