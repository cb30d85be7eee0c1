//! `tangelo explain`: the page of an error code, as it lies in docs/errors.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Cli;
use crate::show;

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// Explain an error code
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The code, such as TG0406
    code: String,
}

pub(crate) fn run(cli: &Cli, ask: &Explain) -> Result<ExitCode> {
    let (code, page) = page(&ask.code)?;
    if cli.json {
        show::json(&json!({"code": code, "page": page}))?;
    } else {
        anstream::print!("{page}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of `asked`: brackets, case and a missing `TG` are forgiven.
fn page(asked: &str) -> Result<(&'static str, &'static str)> {
    let bare = asked.trim_matches(['[', ']', ' ']).to_uppercase();
    let code = match bare.strip_prefix("TG").unwrap_or(&bare).parse::<u16>() {
        Ok(number) => format!("TG{number:04}"),
        Err(_) => bare,
    };
    if let Some(found) = PAGES.iter().find(|(known, _)| *known == code) {
        return Ok(*found);
    }
    let known = PAGES.iter().map(|(known, _)| *known);
    match manifest::nearest(&code, known) {
        Some(nearest) => fail!(
            BAD_ARGUMENT,
            "there is no code `{asked}`: did you mean {nearest}?"
        ),
        None => fail!(
            BAD_ARGUMENT,
            "there is no code `{asked}`: codes are such as TG0406"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_and_a_wrong_one_gets_the_nearest() {
        for (code, _) in model::code::ALL {
            let code = code.to_string();
            let (found, page) = page(&code).expect("has a page");
            assert!(
                found == code && page.starts_with(&format!("# {code}")),
                "{code}"
            );
        }
        for same in ["TG0406", "tg0406", "[TG0406]", "406"] {
            assert_eq!(page(same).expect("is found").0, "TG0406");
        }
        let wrong = page("TG0499").expect_err("is none").to_string();
        assert!(wrong.contains("did you mean TG04"), "{wrong}");
        assert!(page("nonsense").is_err());
    }
}
