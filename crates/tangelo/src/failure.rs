//! Failures of the command line: each has a code, and one place says how it is told, as text or as JSON.
//!
//! A failure is a `model::Error` somewhere in an `anyhow::Error`; what stands around it says what was being done. One without a code is of
//! the machine (a file that cannot be read), or a fault of Tangelo itself.

use std::{fmt, process::ExitCode};

use anyhow::Result;
use clap::error::ErrorKind;
use model::{Code, Error, code};
use serde::Serialize;

/// Returns with a failure of a code of [`model::code`].
macro_rules! fail {
    ($code:ident, $($text:tt)+) => {
        return Err($crate::failure::failure(model::code::$code, format!($($text)+)))
    };
}

/// A failure that nothing else led to.
pub(crate) fn failure(code: Code, message: impl Into<String>) -> anyhow::Error {
    Error::new(code, message).into()
}

/// Gives what went wrong a code, and says of what it did.
pub(crate) trait Coded<T> {
    /// # Errors
    /// The same, as the reason of a failure of `code` that says `what`.
    fn coded(self, code: Code, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Coded<T> for Result<T, E> {
    fn coded(self, code: Code, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.into().context(Error::new(code, what())))
    }
}

/// What people and programs are told of a failure.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    /// `tangelo explain` has its page.
    code: Code,
    /// What, where, and what to do.
    message: String,
    /// What led to it, the nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    because: Vec<String>,
    /// When trying again may help, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl Told {
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let coded = error.downcast_ref::<Error>();
        let of_the_machine = || {
            let mut causes = error.chain();
            match causes.any(<dyn std::error::Error>::is::<std::io::Error>) {
                true => code::FILE_FAILED,
                false => code::INTERNAL,
            }
        };
        let code = coded.map_or_else(of_the_machine, |coded| coded.code);
        let suffix = format!(" [{code}]");
        let mut texts = error.chain().map(|cause| {
            let text = cause.to_string();
            text.strip_suffix(&suffix)
                .map(str::to_owned)
                .unwrap_or(text)
        });
        Self {
            code,
            message: texts.next().unwrap_or_default(),
            because: texts.collect(),
            retry_after: coded
                .and_then(|coded| coded.retry_after)
                .map(|after| after.as_secs().max(1)),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Behind what is wrong, before the lines that say where.
        let (first, rest) = match self.message.split_once('\n') {
            Some((first, rest)) => (first, Some(rest)),
            None => (self.message.as_str(), None),
        };
        write!(f, "error: {first} [{}]", self.code)?;
        if let Some(line) = rest {
            write!(f, "\n{line}")?;
        }
        for cause in &self.because {
            write!(f, "\n  because: {cause}")?;
        }
        Ok(())
    }
}

/// Ends a command whose arguments are none: with the help that they asked for, or with what is wrong with them. `in_json`: whether one of
/// them asks for JSON.
pub(crate) fn of_usage(error: &clap::Error, in_json: bool) -> ExitCode {
    let asked_for = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
    if asked_for.contains(&error.kind()) || !in_json {
        // Nobody reads it when it cannot be written.
        let _ = error.print();
    } else {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        crate::show::error(&failure(code::BAD_ARGUMENT, text), true);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_failure_has_a_code_and_says_what_led_to_it() {
        let refused: Result<()> = Err(failure(code::NO_SUCH_APP, "there is no app `x`\nhere"));
        let refused = refused.context("deploying").expect_err("is one");
        assert_eq!(
            json!(Told::of(&refused)),
            json!({"code": "TG0210", "message": "deploying", "because": ["there is no app `x`\nhere"]})
        );
        let parsed: Result<i32, _> = "x".parse::<i32>();
        let coded = parsed.coded(code::BAD_ARGUMENT, || "`x` is no number\n  at 1".to_owned());
        assert_eq!(
            Told::of(&coded.expect_err("is one")).to_string(),
            "error: `x` is no number [TG0904]\n  at 1\n  because: invalid digit found in string"
        );
        let file: Result<String> =
            std::fs::read_to_string("/no/such/file").context("cannot read it");
        assert_eq!(
            json!(Told::of(&file.expect_err("is none")))["code"],
            "TG0905"
        );
        assert_eq!(json!(Told::of(&anyhow::anyhow!("x")))["code"], "TG0001");
    }
}
