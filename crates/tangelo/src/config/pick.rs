//! One setting from all the places that may say it: flag or environment, file, default.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use model::{ByteSize, Limits};

use super::{File, Flags, Origin, profile};
use crate::secrets::SecretsFile;

/// Picks each setting, and notes where it came from.
pub(super) struct Picker<'a> {
    pub(super) file: &'a Path,
    pub(super) origins: Vec<Origin>,
}

impl Picker<'_> {
    pub(super) fn of<T>(
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

    /// The table of the profile, with what is set by itself in its place.
    pub(super) fn limits(&mut self, flags: &Flags, file: &File) -> Result<Limits> {
        let named = (flags.profile.clone(), file.profile.clone());
        let limits = Limits::of(profile(&self.of("profile", named.0, named.1, "tangelo")?)?);
        let said = file.body_buffers.as_deref().map(str::parse).transpose();
        let said = said.context("setting `body_buffers` [TG0902]")?;
        let default = limits.body_buffers.to_string();
        let body_buffers = self.of("body_buffers", flags.body_buffers, said, &default)?;
        let client_connections = self.of(
            "client_connections",
            flags.client_connections,
            file.client_connections,
            &limits.client_connections.to_string(),
        )?;
        let least = ByteSize(3 * limits.sync_payload.0);
        if body_buffers < least {
            bail!(
                "setting `body_buffers` is {body_buffers}: one function may need {least} [TG0902]"
            );
        }
        Ok(Limits {
            body_buffers,
            client_connections,
            ..limits
        })
    }

    /// The file of secrets by its name: what is in it is nobody's to print.
    pub(super) fn secrets(
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

    pub(super) fn folder(
        &mut self,
        setting: &'static str,
        flag: Option<PathBuf>,
        file: Option<PathBuf>,
        default: &str,
    ) -> PathBuf {
        let from = self.origin(flag.is_some(), file.is_some());
        let value = flag.or(file).unwrap_or_else(|| PathBuf::from(default));
        self.origins.push(Origin {
            setting,
            value: value.display().to_string(),
            from,
        });
        value
    }

    /// The configuration file itself.
    pub(super) fn config(&mut self, asked_for: bool) {
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

    pub(super) fn origin(&self, flag: bool, file: bool) -> String {
        match (flag, file) {
            (true, _) => "flag or environment".to_owned(),
            (false, true) => self.file.display().to_string(),
            (false, false) => "default".to_owned(),
        }
    }

    pub(super) fn optional(
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
