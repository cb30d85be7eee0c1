//! The limits that hold: the table of a profile, with what is set by itself in its place.

use anyhow::{Context, Result, bail};
use model::{ByteSize, Limits, Profile};

use crate::config::{File, Flags, Picker};

impl Picker<'_> {
    /// The table of the profile, with what is set by itself in its place.
    pub(crate) fn limits(&mut self, flags: &Flags, file: &File) -> Result<Limits> {
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
}

fn profile(text: &str) -> Result<Profile> {
    match text {
        "tangelo" => Ok(Profile::Tangelo),
        "aws" => Ok(Profile::Aws),
        other => bail!("setting `profile` is `{other}`: expected tangelo or aws [TG0902]"),
    }
}
