//! The bootstraps that Tangelo ships, written out once per content so that an upgrade never mixes versions.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::app::LambdaRuntime;
use sha2::{Digest, Sha256};

/// Python's: needs nothing but the standard library. The first is what is started.
const PYTHON: &[(&str, &str)] = &[
    ("tangelo_bootstrap.py", include_str!("bootstrap.py")),
    ("tangelo_template.py", include_str!("template.py")),
];
/// Node's: CommonJS, because that starts faster; handlers may be either.
const NODE: &[(&str, &str)] = &[("bootstrap.cjs", include_str!("bootstrap.cjs"))];

/// Starts Python's as a module, which is compiled once and not at every start; its folder is the first argument. What
/// the handler finds in `sys.path` and `sys.argv` is as if a script had been started.
const AS_MODULE: &str = "import sys; sys.path[0] = sys.argv.pop(); import tangelo_bootstrap; del sys.path[0]; \
                         sys.argv[0] = tangelo_bootstrap.__file__; tangelo_bootstrap.main()";

/// The same as a template; what follows runs in each fork. Before it, its last argument says whether it imports the
/// handler.
const AS_TEMPLATE: &str = "import sys; with_handler = sys.argv.pop() == 'handler'; sys.path[0] = sys.argv.pop(); \
                           import tangelo_bootstrap, tangelo_template; del sys.path[0]; \
                           sys.argv[0] = tangelo_bootstrap.__file__; \
                           tangelo_bootstrap.main(tangelo_template.serve(with_handler))";

/// What an interpreter is started with to be a template of instances; `None`: there is none of `runtime`.
pub(crate) fn template_arguments(
    runtime: LambdaRuntime,
    path: &Path,
    with_handler: bool,
) -> Option<Vec<String>> {
    let mut args = arguments(runtime, path);
    match runtime {
        LambdaRuntime::Python3 => {
            AS_TEMPLATE.clone_into(&mut args[1]);
            args.push(if with_handler { "handler" } else { "runtime" }.to_owned());
        }
        // It cannot fork, so that one with the handler loaded would serve one version of one workload, once.
        LambdaRuntime::Nodejs => args.push("template".to_owned()),
        LambdaRuntime::Provided => return None,
    }
    Some(args)
}

/// What an interpreter is started with, for the bootstrap at `path`.
pub(crate) fn arguments(runtime: LambdaRuntime, path: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    match runtime {
        LambdaRuntime::Python3 => {
            let folder = path.parent().unwrap_or_else(|| Path::new("/"));
            vec!["-c".to_owned(), AS_MODULE.to_owned(), text(folder)]
        }
        LambdaRuntime::Nodejs | LambdaRuntime::Provided => vec![text(path)],
    }
}

/// Where the bootstrap of `runtime` is, written there if it is not; `None` for `provided`, which brings its own.
///
/// # Errors
/// When `cache` cannot be written.
pub(crate) fn install(runtime: LambdaRuntime, cache: &Path) -> io::Result<Option<PathBuf>> {
    let files = match runtime {
        LambdaRuntime::Python3 => PYTHON,
        LambdaRuntime::Nodejs => NODE,
        LambdaRuntime::Provided => return Ok(None),
    };
    let mut hash = Sha256::new();
    files.iter().for_each(|(_, content)| hash.update(content));
    let hash = hex::encode(&hash.finalize()[..8]);
    let folder = cache.join("bootstraps").join(hash);
    for (name, content) in files {
        let path = folder.join(name);
        if fs::read_to_string(&path).ok().as_deref() != Some(*content) {
            fs::create_dir_all(&folder)?;
            // Renamed into place: another pool may be starting an instance from it.
            let fresh = folder.join(format!("{name}.{}", std::process::id()));
            fs::write(&fresh, content)?;
            fs::rename(&fresh, &path)?;
        }
    }
    Ok(files.first().map(|(name, _)| folder.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_is_written_once_and_repaired() {
        let cache = tempfile::tempdir().expect("a folder");
        let path = install(LambdaRuntime::Python3, cache.path())
            .expect("is written")
            .expect("has one");
        fs::write(&path, "broken").expect("can be written");
        assert_eq!(
            install(LambdaRuntime::Python3, cache.path()).expect("is written"),
            Some(path.clone())
        );
        assert_eq!(fs::read_to_string(&path).expect("is there"), PYTHON[0].1);
        assert_eq!(
            install(LambdaRuntime::Provided, cache.path()).expect("nothing to do"),
            None
        );
    }
}
