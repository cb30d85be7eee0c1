//! Runs one program of a build, keeps the end of what it says, and shows it when the program fails.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Result;
use model::{Error, code};

/// Most bytes of output that are kept and shown: the end says why.
const KEPT: usize = 64 << 10;
/// Longest line that is read as one.
const LONGEST_LINE: u64 = 1 << 20;

/// Runs `command` to its end.
///
/// # Errors
/// `TG0102` with its output when it cannot be started or does not end with status 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    run_reading(command, Stdio::null())
}

/// As [`run`], with something to read.
pub(crate) fn run_reading(command: &mut Command, input: impl Into<Stdio>) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    command
        .stdin(input)
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .map_err(|error| cannot_start(command, &error))?;
    // The parent's ends of the pipe, so that reading ends when the child does.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let output = tail(reader)?;
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(failed(command, &status.to_string(), &output).into())
}

/// As [`run`], but the program's stdout is its result and only stderr is for people.
pub(crate) fn run_for_output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_start(command, &error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let told = tail(output.stderr.as_slice())?;
    Err(failed(command, &output.status.to_string(), &told).into())
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy();
    Error::new(
        code::BUILD_FAILED,
        format!("`{program}` cannot be started: {error}"),
    )
}

fn failed(command: &Command, status: &str, output: &str) -> Error {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let output = match output {
        "" => "it said nothing",
        output => output,
    };
    Error::new(
        code::BUILD_FAILED,
        format!("`{}` failed ({status}):\n{output}", words.join(" ")),
    )
}

/// The last lines of what a program says, without escape sequences.
fn tail(from: impl Read) -> std::io::Result<String> {
    let mut from = BufReader::new(from);
    let (mut lines, mut size) = (VecDeque::new(), 0);
    loop {
        let mut line = Vec::new();
        if from
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?
            == 0
        {
            break;
        }
        let line = anstream::adapter::strip_str(&String::from_utf8_lossy(&line)).to_string();
        let line = line.trim_end().to_owned();
        size += line.len() + 1;
        lines.push_back(line);
        while size > KEPT {
            size -= lines.pop_front().map_or(size, |line| line.len() + 1);
        }
    }
    Ok(Vec::from(lines).join("\n").trim().to_owned())
}

/// What `work` makes and how long it took: builds run where no virtual clock is.
#[allow(
    clippy::disallowed_methods,
    reason = "shown to a user, decides nothing"
)]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = std::time::Instant::now();
    let made = work();
    (made, begun.elapsed())
}
