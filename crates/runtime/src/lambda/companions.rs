//! External extensions: executables in the folder `extensions` of the code, started with each instance.
//!
//! A shell is the instance's first process: it starts the extensions, waits until all have registered, and starts the
//! runtime. So all of them share the instance's session, control group, limits and pipes, and end with it. How each
//! of them ends comes back through a FIFO that none of them has open; a runtime that ends by itself leaves the shell to wait until
//! the extensions have had their end.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use model::{Clock, Error, code};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe,
};

use super::{
    extension_api::{MAX_NAME, Reason, failure},
    extensions::MOST,
    instance::Instance,
    interpreter,
};
use crate::launcher::{Command, Exit};

/// Arguments: two FIFOs (ends go out by the first, the second says when to go on), how many extensions, their paths,
/// then the runtime's program and arguments. What AWS does not tell extensions is unset. Each runs under a shell of its
/// own; what shells say of ends by signals is nobody's output.
const SCRIPT: &str = r#"
exec 3>"$1" 4<"$2" 5>&2 2>/dev/null
rm -f "$1" "$2"
left=$3
shift 3
while [ "$left" -gt 0 ]; do
    (
        exec 4<&-
        unset _HANDLER AWS_EXECUTION_ENV AWS_LAMBDA_LOG_GROUP_NAME AWS_LAMBDA_LOG_STREAM_NAME
        unset LAMBDA_RUNTIME_DIR LAMBDA_TASK_ROOT
        "$1" 2>&5 3>&- 5>&-
        echo "$? ${1##*/}" >&3
    ) &
    shift
    left=$((left - 1))
done
read -r _ <&4
/bin/sh -c 'echo "@$$" >&3; exec "$@" 2>&5 3>&- 5>&-' sh "$@" 4<&-
status=$?
echo "=$status" >&3
read -r _ <&4
exit "$status"
"#;

/// What the server holds of an instance's external extensions while it lives.
pub(crate) struct Companions {
    files: [PathBuf; 2],
    ends: pipe::Receiver,
    go: pipe::Sender,
}

/// The executables in the folder `extensions` of the code, by name.
///
/// # Errors
/// `START_FAILED` when there are more than an instance may have, or this system cannot start them.
pub(crate) fn find(task_root: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = std::fs::read_dir(task_root.join("extensions"));
    let files = folder
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let named = |file: &PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.len() <= MAX_NAME && !name.contains(char::is_control))
    };
    let mut found: Vec<_> = files
        .filter(|file| named(file) && file.is_file() && interpreter::is_executable(file))
        .collect();
    found.sort();
    if found.len() > MOST {
        let message = format!("the folder `extensions` has more than {MOST} executables");
        return Err(Error::new(code::START_FAILED, message));
    }
    if !found.is_empty() && !cfg!(target_os = "linux") {
        let message = "external extensions need a server on Linux";
        return Err(Error::new(code::START_FAILED, message));
    }
    Ok(found)
}

/// The name under which an extension registers: its file's.
pub(crate) fn name(extension: &Path) -> String {
    let name = extension.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl Companions {
    /// Makes what is needed to hear of `extensions`, in `folder`; `None` when there are none.
    #[cfg(target_os = "linux")]
    pub(crate) fn new(extensions: &[PathBuf], folder: &Path) -> io::Result<Option<Self>> {
        if extensions.is_empty() {
            return Ok(None);
        }
        let files = [".extensions-end", ".extensions-go"].map(|name| folder.join(name));
        for file in &files {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, file, mode)?;
        }
        // Both ways, so that neither waits for the shell nor ends with it.
        let mut both = pipe::OpenOptions::new();
        both.read_write(true);
        let (ends, go) = (both.open_receiver(&files[0])?, both.open_sender(&files[1])?);
        Ok(Some(Self { files, ends, go }))
    }

    /// Needs Linux, and [`find`] finds none elsewhere.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new(extensions: &[PathBuf], _folder: &Path) -> io::Result<Option<Self>> {
        if extensions.is_empty() {
            return Ok(None);
        }
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Has `command` start `extensions` before it begins.
    pub(crate) fn precede(&self, extensions: &[PathBuf], command: &mut Command) {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut args = vec!["-c".to_owned(), SCRIPT.to_owned(), "extensions".to_owned()];
        args.extend(self.files.iter().map(text));
        args.push(extensions.len().to_string());
        args.extend(extensions.iter().map(text));
        args.push(text(&command.program));
        args.append(&mut command.args);
        command.program = PathBuf::from("/bin/sh");
        command.args = args;
    }
}

/// Says to the shell that it may go on.
pub(crate) struct Go(pipe::Sender);

impl Go {
    fn on(&self) {
        let _ = self.0.try_write(b"go\n");
    }
}

/// Lets the runtime begin when the extensions have registered, and tells the instance of the ends of all.
pub(crate) async fn watch(
    instance: &Arc<Instance>,
    companions: Option<Companions>,
    clock: &Clock,
) -> Infallible {
    let Some(Companions { ends, go, .. }) = companions else {
        return std::future::pending().await;
    };
    let go = Arc::new(Go(go));
    let begin = async {
        instance.extensions.all_registered().await;
        instance.marks.registered(clock.monotonic());
        go.on();
        std::future::pending().await
    };
    let listen = async {
        let mut lines = BufReader::new(ends).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(pid) = line.strip_prefix('@') {
                instance.marks.runtime_is(pid.parse().unwrap_or_default());
            } else if let Some(status) = line.strip_prefix('=') {
                let go = Arc::clone(&go);
                instance.runtime_ended(exit_of(status), move || go.on());
            } else if let Some((status, name)) = line.split_once(' ') {
                ended(instance, status, name);
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        never = begin => never,
        never = listen => never,
    }
}

/// How a program ended, by what a shell says of it: a signal is 128 and its number.
fn exit_of(status: &str) -> Exit {
    let status: i32 = status.parse().unwrap_or(-1);
    let signal = Some(status - 128).filter(|signal| (1..=64).contains(signal));
    Exit {
        code: Some(status).filter(|_| signal.is_none()),
        signal,
        out_of_memory: false,
    }
}

/// An extension that ends before it was told to takes its instance with it, as on AWS.
fn ended(instance: &Arc<Instance>, status: &str, name: &str) {
    instance.extensions.ended(name);
    if instance.extensions.ends() {
        return;
    }
    let message = format!("the extension `{name}` ended: exit status {status}");
    instance.logs.note(message.clone());
    instance.extension_failed(failure("Extension.Crash", &message), Reason::Failure);
}
