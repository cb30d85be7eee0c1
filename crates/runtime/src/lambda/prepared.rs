//! What the instances of one version have in common: the program, the code's folder, the bootstrap. Found once.

use std::path::{Path, PathBuf};

use model::{
    Error, Run,
    app::{LambdaRuntime, LambdaTemplate},
    code,
};

use super::{bootstraps, companions, interpreter};
use crate::pool::{Context, Spec};

/// Ready to be started.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) handler: String,
    pub(crate) task_root: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) execution_env: Option<String>,
    /// The server's own `PATH`.
    pub(crate) path: String,
    /// What a template of its interpreter is started with, where there may be one.
    pub(crate) template: Option<Vec<String>>,
    /// External extensions, started with each instance.
    pub(crate) extensions: Vec<PathBuf>,
    /// Whether the template has the handler in it.
    pub(crate) with_handler: bool,
}

/// Finds what `spec` needs.
///
/// # Errors
/// `ARTIFACT_MISSING` when the code is not there, `RUNTIME_MISSING` when the interpreter is not, `START_FAILED` when
/// the cache cannot be written.
pub(crate) async fn prepare(context: &Context, spec: &Spec) -> Result<Prepared, Error> {
    let Run::Lambda {
        runtime,
        handler,
        code,
        template,
        ..
    } = &spec.workload.run
    else {
        return Err(Error::internal(format!(
            "`{}` is no Lambda workload",
            spec.workload.name
        )));
    };
    let task_root = task_root(&spec.folder, code)?;
    let path = std::env::var_os("PATH")
        .and_then(|p| p.into_string().ok())
        .unwrap_or_default();
    let bootstrap = bootstraps::install(*runtime, &context.cache).map_err(|e| {
        Error::new(code::START_FAILED, "the bootstrap cannot be written").context(e)
    })?;
    let extensions = companions::find(&task_root)?;
    let Some(bootstrap) = bootstrap else {
        return provided(handler, task_root, path, extensions);
    };
    let interpreter = interpreter::find(*runtime, &path, &context.launcher).await?;
    let with_handler = *template == LambdaTemplate::Handler;
    // Elsewhere there is no way to put a process that runs within limits, nor to tie its life to the launcher's.
    // What is made of a template is no shell that starts others first.
    let may =
        extensions.is_empty() && *template != LambdaTemplate::Off && cfg!(target_os = "linux");
    let template = may.then(|| bootstraps::template_arguments(*runtime, &bootstrap, with_handler));
    Ok(Prepared {
        template: template.flatten(),
        extensions,
        with_handler,
        program: interpreter.program,
        args: bootstraps::arguments(*runtime, &bootstrap),
        handler: handler.clone(),
        task_root,
        runtime_dir: bootstrap
            .parent()
            .unwrap_or_else(|| Path::new("/"))
            .to_owned(),
        execution_env: Some(interpreter.execution_env)
            .filter(|_| *runtime != LambdaRuntime::Provided),
        path,
    })
}

/// The folder of the code: what the manifest names, or the folder of the file that it names.
fn task_root(folder: &Path, code: &str) -> Result<PathBuf, Error> {
    let named = folder.join(code);
    let named = named.canonicalize().map_err(|e| {
        Error::new(
            code::ARTIFACT_MISSING,
            format!("the code `{code}` is not in the artifact"),
        )
        .context(e)
    })?;
    if named.is_dir() {
        return Ok(named);
    }
    Ok(named.parent().unwrap_or(folder).to_owned())
}

fn provided(
    handler: &str,
    task_root: PathBuf,
    path: String,
    extensions: Vec<PathBuf>,
) -> Result<Prepared, Error> {
    let program = task_root.join("bootstrap");
    if !interpreter::is_executable(&program) {
        let message =
            "a `provided` function needs an executable file `bootstrap` in its code folder";
        return Err(Error::new(code::ARTIFACT_MISSING, message));
    }
    Ok(Prepared {
        program,
        args: Vec::new(),
        handler: handler.to_owned(),
        runtime_dir: task_root.clone(),
        task_root,
        execution_env: None,
        path,
        template: None,
        extensions,
        with_handler: false,
    })
}
