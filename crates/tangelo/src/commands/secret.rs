//! `tangelo secret`: values that others get, too.

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Result;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use clap::{Args, ValueEnum};
use model::Ids;
use serde_json::json;

use super::Cli;
use crate::show;

/// Make a secret: a line for the server's file of secrets, whose value somebody outside gets, too
#[derive(Debug, Args)]
pub(crate) struct Secret {
    /// For what
    #[arg(value_enum)]
    kind: Kind,
    /// What the manifest calls it
    name: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// It signs webhooks
    Webhook,
    /// It is a key of the bus
    Key,
}

pub(crate) fn run(cli: &Cli, ask: &Secret) -> Result<ExitCode> {
    let (name, value) = (&ask.name, value(ask.kind, &Ids::system()));
    if cli.json {
        show::json(&json!({ "name": name, "value": value }))?;
    } else {
        anstream::println!("{name} = \"{value}\"");
        // Who redirects it knows where to.
        if std::io::stdout().is_terminal() {
            anstream::eprintln!(
                "a line for the server's `secrets.toml`, which is in its data folder unless `serve --secrets` says otherwise"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// 256 random bits.
fn value(kind: Kind, ids: &Ids) -> String {
    let bytes = [ids.random().to_be_bytes(), ids.random().to_be_bytes()].concat();
    match kind {
        Kind::Webhook => format!("whsec_{}", STANDARD.encode(bytes)),
        Kind::Key => format!("tgk_{}", URL_SAFE_NO_PAD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let ids = Ids::seeded(1);
        let (one, other) = (value(Kind::Webhook, &ids), value(Kind::Webhook, &ids));
        assert_ne!(one, other);
        let bytes = STANDARD.decode(&one["whsec_".len()..]).expect("base64");
        assert_eq!((&one[..6], bytes.len()), ("whsec_", 32));
        assert_eq!(value(Kind::Key, &ids).len(), 4 + 43);
    }
}
