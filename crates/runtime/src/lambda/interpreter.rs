//! Finding `python3` and `node`: the real program behind `PATH`, asked once per server.
//!
//! Version managers put a script in front that costs 50 ms at every start; so the program is asked where it is.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use model::{Error, app::LambdaRuntime, code};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;

use crate::launcher::{Command, Launcher};

/// How long an interpreter may take to say where it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that runs handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// Its absolute path.
    pub(crate) program: PathBuf,
    /// What `AWS_EXECUTION_ENV` says.
    pub(crate) execution_env: String,
}

/// What was found, by the path that was asked.
static FOUND: Mutex<Option<HashMap<PathBuf, Interpreter>>> = Mutex::new(None);

/// Finds the interpreter of `runtime` on `path`.
///
/// # Errors
/// `RUNTIME_MISSING` names what to install, or what the program said instead of where it is.
pub(crate) async fn find(
    runtime: LambdaRuntime,
    path: &str,
    launcher: &Launcher,
) -> Result<Interpreter, Error> {
    let (name, ask) = match runtime {
        LambdaRuntime::Nodejs => ("node", &NODE_ASKED[..]),
        LambdaRuntime::Python3 | LambdaRuntime::Provided => ("python3", &PYTHON_ASKED[..]),
    };
    let asked = on_path(name, path).ok_or_else(|| missing(name))?;
    if let Some(found) = FOUND
        .lock()
        .as_ref()
        .and_then(|all| all.get(&asked).cloned())
    {
        return Ok(found);
    }
    let said = run(&asked, ask, path, launcher)
        .await
        .map_err(|e| missing(name).context(e))?;
    let found = understood(runtime, &said).ok_or_else(|| missing(name).context(said))?;
    FOUND
        .lock()
        .get_or_insert_default()
        .insert(asked, found.clone());
    Ok(found)
}

const PYTHON_ASKED: [&str; 4] = [
    "-I",
    "-S",
    "-c",
    "import sys; print(sys.executable); print('%d.%d' % sys.version_info[:2])",
];
const NODE_ASKED: [&str; 2] = [
    "-p",
    "process.execPath + '\\n' + process.versions.node.split('.')[0]",
];

fn understood(runtime: LambdaRuntime, said: &str) -> Option<Interpreter> {
    let (program, version) = said.trim().split_once('\n')?;
    let program = PathBuf::from(program);
    let execution_env = match runtime {
        LambdaRuntime::Nodejs => format!("AWS_Lambda_nodejs{version}.x"),
        LambdaRuntime::Python3 | LambdaRuntime::Provided => format!("AWS_Lambda_python{version}"),
    };
    program.is_absolute().then_some(Interpreter {
        program,
        execution_env,
    })
}

fn missing(name: &str) -> Error {
    let package = if name == "node" {
        "Node.js 20 or newer"
    } else {
        "Python 3.9 or newer"
    };
    Error::new(
        code::RUNTIME_MISSING,
        format!("there is no working `{name}` on the server's PATH; install {package}"),
    )
}

/// The first executable file `name` in the folders of `path`.
fn on_path(name: &str, path: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_absolute() && is_executable(file))
}

/// Whether this is a file that may be run.
pub(crate) fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

async fn run(
    program: &Path,
    args: &[&str],
    path: &str,
    launcher: &Launcher,
) -> Result<String, String> {
    let mut command = Command::new(program, "/");
    command.args = args.iter().map(|&a| a.to_owned()).collect();
    // Version managers find their own folder by it.
    command.env = ["HOME", "PYENV_ROOT", "NVM_DIR", "ASDF_DIR", "ASDF_DATA_DIR"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?.into_string().ok()?)))
        .collect();
    command.env.push(("PATH".to_owned(), path.to_owned()));
    let mut child = launcher.spawn(command).await.map_err(|e| e.to_string())?;
    let mut said = String::new();
    let read = async {
        if let Some(stdout) = child.stdout.as_mut() {
            let _ = stdout.take(4096).read_to_string(&mut said).await;
        }
        child.exited().await
    };
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(exit) if exit.success() => Ok(said),
        Ok(exit) => Err(format!("`{}` ended with {exit}", program.display())),
        Err(_) => Err(format!(
            "`{}` did not say where it is in time",
            program.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_executable_on_the_path_wins() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        for (dir, mode) in [(&first, 0o644), (&second, 0o755)] {
            std::fs::create_dir(dir).expect("can be made");
            std::fs::write(dir.join("node"), "#!/bin/sh\n").expect("can be written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(dir.join("node"), mode).expect("can be set");
        }
        let path = format!("relative:{}:{}", first.display(), second.display());
        // Root may read and write anything, but execute only what is marked so.
        assert_eq!(on_path("node", &path), Some(second.join("node")));
        assert_eq!(on_path("python3", &path), None);
    }

    #[test]
    fn what_interpreters_say_is_understood() {
        let python = understood(LambdaRuntime::Python3, "/usr/bin/python3.12\n3.12\n")
            .expect("is understood");
        assert_eq!(python.execution_env, "AWS_Lambda_python3.12");
        let node = understood(LambdaRuntime::Nodejs, "/usr/bin/node\n20\n").expect("is understood");
        assert_eq!(
            (node.program, node.execution_env),
            ("/usr/bin/node".into(), "AWS_Lambda_nodejs20.x".to_owned())
        );
        assert_eq!(understood(LambdaRuntime::Nodejs, "node\n20\n"), None);
        assert_eq!(understood(LambdaRuntime::Nodejs, ""), None);
    }
}
