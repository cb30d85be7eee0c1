//! The limits that hold: the table of a profile, with what is set by itself in its place.

use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use model::{ByteSize, Limits, Profile, code, invocation::MAX_CHAIN_DEPTH};

use crate::{
    config::{File, Flags, Picker},
    failure::Coded,
};

/// Limits that bound what the server holds at the same time.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LimitFlags {
    /// Connections to the gateway at the same time, WebSockets among them [default: 20000]
    #[arg(long, env = "TANGELO_CONNECTIONS", value_name = "N")]
    connections: Option<usize>,
    /// Requests under way at the same time, all workloads together [default: 8192]
    #[arg(long, env = "TANGELO_REQUESTS", value_name = "N")]
    requests: Option<u32>,
    /// Wasm guests alive at the same time [default: 1000]
    #[arg(long, env = "TANGELO_WASM_GUESTS", value_name = "N")]
    wasm_guests: Option<u32>,
    /// Memory of all Wasm guests together [default: 2048MiB]
    #[arg(long, env = "TANGELO_WASM_MEMORY", value_name = "SIZE")]
    wasm_memory: Option<ByteSize>,
    /// Whether components of WASI 0.3 run, which wasmtime calls experimental [default: false]
    #[arg(long, env = "TANGELO_WASI_PREVIEW3", value_name = "BOOL")]
    wasi_preview3: Option<bool>,
    /// How deep calls and events that cause each other may go, at most 250 [default: 16]
    #[arg(long, env = "TANGELO_CHAIN_DEPTH", value_name = "N")]
    chain_depth: Option<u8>,
}

impl Picker<'_> {
    /// The table of the profile, with what is set by itself in its place.
    pub(crate) fn limits(&mut self, flags: &Flags, file: &File) -> Result<Limits> {
        let named = (flags.profile.clone(), file.profile.clone());
        let limits = Limits::of(profile(&self.of("profile", named.0, named.1, "tangelo")?)?);
        let body_buffers = self.size(
            "body_buffers",
            flags.body_buffers,
            file.body_buffers.as_deref(),
            limits.body_buffers,
        )?;
        let client_connections = self.of(
            "client_connections",
            flags.client_connections,
            file.client_connections,
            &limits.client_connections.to_string(),
        )?;
        let least = ByteSize(3 * limits.sync_payload.0);
        if body_buffers < least {
            fail!(
                BAD_CONFIG,
                "setting `body_buffers` is {body_buffers}: one function may need {least}"
            );
        }
        let own = &flags.limits;
        Ok(Limits {
            body_buffers,
            client_connections,
            connections: self.count(
                "connections",
                own.connections,
                file.connections,
                limits.connections,
            )?,
            requests: self.count("requests", own.requests, file.requests, limits.requests)?,
            wasm_guests: self.count(
                "wasm_guests",
                own.wasm_guests,
                file.wasm_guests,
                limits.wasm_guests,
            )?,
            wasm_memory: self.size(
                "wasm_memory",
                own.wasm_memory,
                file.wasm_memory.as_deref(),
                limits.wasm_memory,
            )?,
            wasi_preview3: self.of(
                "wasi_preview3",
                own.wasi_preview3,
                file.wasi_preview3,
                &limits.wasi_preview3.to_string(),
            )?,
            chain_depth: self.chain_depth(own.chain_depth, file.chain_depth, limits)?,
            ..limits
        })
    }

    fn chain_depth(&mut self, flag: Option<u8>, file: Option<u8>, limits: Limits) -> Result<u8> {
        let depth = self.count("chain_depth", flag, file, limits.chain_depth)?;
        if depth > MAX_CHAIN_DEPTH {
            fail!(
                BAD_CONFIG,
                "setting `chain_depth` is {depth}: it must be at most {MAX_CHAIN_DEPTH}"
            );
        }
        Ok(depth)
    }

    /// A number of things, of which there must be some.
    fn count<N>(
        &mut self,
        setting: &'static str,
        flag: Option<N>,
        file: Option<N>,
        default: N,
    ) -> Result<N>
    where
        N: FromStr<Err: std::error::Error + Send + Sync + 'static>
            + ToString
            + From<u8>
            + PartialEq,
    {
        let value = self.of(setting, flag, file, &default.to_string())?;
        if value == N::from(0) {
            fail!(BAD_CONFIG, "setting `{setting}` must be at least 1");
        }
        Ok(value)
    }

    fn size(
        &mut self,
        setting: &'static str,
        flag: Option<ByteSize>,
        file: Option<&str>,
        default: ByteSize,
    ) -> Result<ByteSize> {
        let said = file.map(str::parse).transpose();
        let said = said.coded(code::BAD_CONFIG, || format!("setting `{setting}`"))?;
        self.of(setting, flag, said, &default.to_string())
    }
}

fn profile(text: &str) -> Result<Profile> {
    match text {
        "tangelo" => Ok(Profile::Tangelo),
        "aws" => Ok(Profile::Aws),
        other => fail!(
            BAD_CONFIG,
            "setting `profile` is `{other}`: expected tangelo or aws"
        ),
    }
}

#[cfg(test)]
mod tests {
    use gateway::ConnectionLimits;
    use model::event::{MAX_ATTRIBUTE, MAX_EXTENSION_NAME, MAX_EXTENSIONS};

    use super::*;

    const PAGE: &str = include_str!("../../../docs/events.md");

    /// `1 MiB`, and `1,000`.
    fn shown(size: ByteSize) -> String {
        size.to_string()
            .replace("MiB", " MiB")
            .replace("KiB", " KiB")
    }

    fn grouped(count: usize) -> String {
        match count {
            0..1000 => count.to_string(),
            _ => format!("{},{:03}", count / 1000, count % 1000),
        }
    }

    #[test]
    fn what_publishers_may_send_is_documented_as_it_is() {
        let (limits, heads) = (Limits::default(), ConnectionLimits::default());
        let aws = Limits::of(Profile::Aws);
        for (what, most) in [
            ("an event, its attributes included", shown(limits.event)),
            ("events in a batch", grouped(limits.publish_batch)),
            ("the body of a batch", shown(limits.publish_body())),
            (
                "`id`, `source`, `type`, `subject`, `dataschema`, `datacontenttype`, an extension's text",
                format!("{} bytes", grouped(MAX_ATTRIBUTE)),
            ),
            ("extension attributes", MAX_EXTENSIONS.to_string()),
            (
                "the name of an extension attribute",
                format!("{MAX_EXTENSION_NAME} bytes, `a` to `z` and `0` to `9`"),
            ),
            ("JSON in JSON", format!("{} levels", limits.depth)),
            (
                "header lines of a request",
                format!("{} lines", heads.headers),
            ),
            (
                "the head of a request",
                shown(ByteSize(heads.head_bytes as u64)),
            ),
            (
                "events and calls that cause each other",
                format!(
                    "{} steps, unless `chain_depth` says otherwise",
                    limits.chain_depth
                ),
            ),
        ] {
            let row = format!("\n| {what} | {most} | ");
            assert!(PAGE.contains(&row), "docs/events.md has no row{row}");
        }
        let profile = format!(
            "With the profile `aws` an event has at most {}, and a batch {} events.",
            shown(aws.event),
            aws.publish_batch
        );
        assert!(PAGE.contains(&profile), "{profile}");
    }
}
