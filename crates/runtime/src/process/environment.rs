//! What a process is started with: its program, its arguments, and its environment, which is this and nothing else.

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use model::{Error, InstanceId, Run, code};

use super::ports::Ports;
use crate::{
    container::Plan,
    launcher::{Command, Limits},
    pool::Spec,
};

/// The command of `spec` for an instance that listens on `ports`; `given` is what the platform adds.
pub(super) fn command(
    spec: &Spec,
    given: &[(String, String)],
    ports: &Ports,
) -> Result<Command, Error> {
    let Run::Process { command, .. } = &spec.workload.run else {
        return Err(Error::internal("a process pool for another runtime"));
    };
    let (program, arguments) = command.split_first().ok_or_else(|| {
        Error::new(
            code::START_FAILED,
            format!("`{}` has no command", spec.workload.name),
        )
    })?;
    let mut env = machine();
    env.extend(environment(spec, given, ports));
    let path = env
        .iter()
        .rfind(|(name, _)| name == "PATH")
        .map_or("", |(_, value)| value.as_str());
    let program = find(program, &spec.folder, path)
        .ok_or_else(|| missing(program, spec.workload.name.as_str()))?;
    let mut command = Command::new(program, &spec.folder);
    command.args = arguments.to_vec();
    command.env = env;
    command.limits = Limits::of(&spec.workload);
    Ok(command)
}

/// The container of `spec` for an instance that listens on `ports`, from the image of this id.
pub(super) fn plan(
    spec: &Spec,
    given: &[(String, String)],
    ports: &Ports,
    facts: &Facts<'_>,
) -> Result<Plan, Error> {
    let workload = &spec.workload;
    let Run::Container {
        command,
        user,
        volumes,
        writable,
        ..
    } = &workload.run
    else {
        return Err(Error::internal("a container for another runtime"));
    };
    let (app, name) = (spec.app.as_str(), workload.name.as_str());
    let mut binds: Vec<String> = volumes
        .iter()
        .map(|(volume, at)| format!("tangelo-{}-{app}-{volume}:{at}", facts.mark))
        .collect();
    if let Some(folder) = &spec.state_folder {
        binds.push(format!("{0}:{0}", folder.display()));
    }
    Ok(Plan {
        name: format!("tangelo-{app}-{name}-{}", facts.instance),
        image: facts.image.to_owned(),
        command: command.clone(),
        user: user.clone(),
        env: environment(spec, given, ports),
        binds,
        writable: *writable,
        limits: Limits::of(workload),
        labels: Plan::labels(facts.mark, app, name),
    })
}

/// What a container is told apart by, and made from.
pub(super) struct Facts<'a> {
    /// The server's mark.
    pub(super) mark: &'a str,
    /// The instance.
    pub(super) instance: InstanceId,
    /// The image's id.
    pub(super) image: &'a str,
}

/// Later entries win over earlier ones of the same name: the platform's over the manifest's. `HOST` keeps servers that
/// honour it off the network.
fn environment(spec: &Spec, given: &[(String, String)], ports: &Ports) -> Vec<(String, String)> {
    let workload = &spec.workload;
    let mut env = vec![("HOST".to_owned(), "127.0.0.1".to_owned())];
    let own = workload.env.iter();
    env.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    env.extend(given.iter().cloned());
    let revision = format!("{}-{}", workload.name, spec.version.short());
    let mut add = |name: &str, value: String| env.push((name.to_owned(), value));
    for (variable, port) in ports.variables() {
        add(variable, port.to_string());
    }
    // The container contract of Knative (serving spec, "Environment Variables").
    add("K_SERVICE", workload.name.to_string());
    add("K_CONFIGURATION", workload.name.to_string());
    add("K_REVISION", revision);
    if let Some(folder) = &spec.state_folder {
        add("TANGELO_STATE_DIR", folder.display().to_string());
    }
    env
}

/// What every program may expect of a machine; an image brings its own.
fn machine() -> Vec<(String, String)> {
    let read = |name: &str, default: &str| {
        let value = std::env::var_os(name).unwrap_or_else(|| OsString::from(default));
        (name.to_owned(), value.to_string_lossy().into_owned())
    };
    vec![
        read("PATH", "/usr/local/bin:/usr/bin:/bin"),
        read("HOME", "/"),
        read("LANG", "C.UTF-8"),
    ]
}

/// Names with a `/` are of the artifact, others are looked for in `path`.
fn find(program: &str, folder: &Path, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(folder.join(program)).filter(|file| file.is_file());
    }
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn missing(program: &str, workload: &str) -> Error {
    if program.contains('/') {
        Error::new(
            code::START_FAILED,
            format!("`{workload}` cannot start: `{program}` is not among its files"),
        )
    } else {
        Error::new(
            code::RUNTIME_MISSING,
            format!("`{workload}` cannot start: `{program}` is not installed on this machine"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names_are_searched_and_paths_are_of_the_artifact() {
        let folder = Path::new("/usr");
        assert_eq!(
            find("sh", folder, "/nowhere:/bin"),
            Some(PathBuf::from("/bin/sh"))
        );
        assert_eq!(find("sh", folder, "/nowhere"), None);
        assert_eq!(
            find("./bin/env", folder, ""),
            Some(PathBuf::from("/usr/./bin/env"))
        );
        assert_eq!(find("./bin/nothing", folder, "/bin"), None);
        assert_eq!(missing("sh", "a").code, code::RUNTIME_MISSING);
        assert_eq!(missing("./sh", "a").code, code::START_FAILED);
    }
}
