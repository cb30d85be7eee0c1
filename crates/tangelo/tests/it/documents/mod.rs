//! The code that the documents print, run as it is printed, with the packages that it names.
//!
//! The documents are no part of this repository, and none of their text is: it is read when a test runs, and where
//! they are absent the tests say that they were skipped.

mod calls;
mod listing;
mod page;
mod tracing;

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use listing::Listing;

/// A document by the number that its file's name begins with; a word on stderr when it is not there.
fn document(number: &str) -> Option<String> {
    let folder = testkit::material().map(|material| material.join("background"));
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let found = entries
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(number));
    let Some(file) = found else {
        eprintln!(
            "skipped: document {number} is not here; TANGELO_MATERIAL names the folder with `background`"
        );
        return None;
    };
    Some(std::fs::read_to_string(file.path()).expect("a document is text"))
}

/// The packages of `tests/clients/package.json`.
fn node_modules() -> PathBuf {
    testkit::tools("tangelo").join("node_modules")
}

/// Reads TypeScript and writes JavaScript.
const STRIP: &str = "
const { transformSync } = require('esbuild');
const text = require('node:fs').readFileSync(0, 'utf8');
process.stdout.write(transformSync(text, { loader: 'ts', format: 'cjs' }).code);
";

/// A listing as JavaScript: esbuild takes its types off, and nothing else touches it.
fn javascript(document: &str, listing: &Listing) -> Result<String> {
    let mut esbuild = Command::new("node")
        .args(["--eval", STRIP])
        .current_dir(testkit::tools("tangelo"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = esbuild.stdin.take().context("stdin is piped")?;
    input.write_all(listing.restore(document)?.as_bytes())?;
    drop(input);
    let output = esbuild.wait_with_output()?;
    ensure!(output.status.success(), "esbuild: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
