//! The environment of an instance, as Lambda sets it
//! (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>). Pure but for what it is told.
//!
//! Later ones win: defaults, then the manifest's `env`, then what Lambda reserves, then what the host gives.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use super::payload::{REGION, function_name};
use crate::pool::Spec;

/// The version that every function has, as AWS names it before a version is published.
pub(crate) const VERSION: &str = "$LATEST";

/// What the environment says beyond the workload's spec.
pub(crate) struct Facts<'a> {
    /// `file.function`.
    pub(crate) handler: &'a str,
    /// The folder of the code.
    pub(crate) task_root: &'a Path,
    /// The folder of the bootstrap.
    pub(crate) runtime_dir: &'a Path,
    /// `AWS_Lambda_python3.11`; none for `provided`.
    pub(crate) execution_env: Option<&'a str>,
    /// Where the Runtime API listens.
    pub(crate) api: SocketAddr,
    /// A folder of the instance's own.
    pub(crate) scratch: &'a Path,
    /// The server's own `PATH`.
    pub(crate) path: &'a str,
    /// The name of the instance's log stream.
    pub(crate) log_stream: &'a str,
    /// Whether it is started before anybody waits for it.
    pub(crate) ahead: bool,
}

/// The variables of an instance; `host` are those that the host gives.
pub(crate) fn environment(
    spec: &Spec,
    facts: &Facts<'_>,
    host: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let mut all = defaults(facts);
    all.extend(spec.workload.env.clone());
    all.extend(reserved(spec, facts));
    let state = spec
        .state_folder
        .as_deref()
        .map(|f| ("TANGELO_STATE_DIR".to_owned(), text(f)));
    all.extend(state);
    all.extend(host);
    all.into_iter().collect()
}

/// Those variables that an interpreter, or what is loaded with it, reads while it boots, with the prefixes of more.
const AT_BOOT: &[&str] = &["PATH", "TZ", "LANGUAGE", "GCONV_PATH", "GLIBC_TUNABLES"];
const AT_BOOT_LIKE: &[&str] = &[
    "PYTHON", "NODE_", "UV_", "LANG", "LC_", "LD_", "MALLOC_", "OPENSSL_", "SSL_",
];

/// What of an instance's environment counts while its interpreter boots; the rest may come later.
pub(crate) fn at_boot(spec: &Spec, env: &[(String, String)]) -> BTreeMap<String, String> {
    let counts = |name: &str| {
        // The bootstrap reads it again.
        let later = name == "NODE_PATH";
        // An instance has a home of its own unless the manifest says where it is.
        let home = name == "HOME" && spec.workload.env.contains_key(name);
        let like = || AT_BOOT_LIKE.iter().any(|like| name.starts_with(like));
        home || (!later && (AT_BOOT.contains(&name) || like()))
    };
    let counting = env.iter().filter(|(name, _)| counts(name));
    counting.cloned().collect()
}

fn defaults(facts: &Facts<'_>) -> BTreeMap<String, String> {
    let (root, runtime) = (text(facts.task_root), text(facts.runtime_dir));
    let scratch = text(facts.scratch);
    let mut all: BTreeMap<String, String> = [
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("HOME", scratch.clone()),
        ("LANG", "en_US.UTF-8".to_owned()),
        (
            "NODE_PATH",
            format!("{runtime}/node_modules:{runtime}:{root}"),
        ),
        ("PATH", facts.path.to_owned()),
        ("PYTHONPATH", runtime),
        ("TMPDIR", scratch),
        ("TZ", ":UTC".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if facts.task_root.join("lib").is_dir() {
        all.insert("LD_LIBRARY_PATH".to_owned(), format!("{root}:{root}/lib"));
    }
    all
}

fn reserved(spec: &Spec, facts: &Facts<'_>) -> impl Iterator<Item = (String, String)> {
    let name = function_name(&spec.app, &spec.workload.name);
    let start = if facts.ahead {
        "provisioned-concurrency"
    } else {
        "on-demand"
    };
    let all = [
        ("_HANDLER", Some(facts.handler.to_owned())),
        ("AWS_EXECUTION_ENV", facts.execution_env.map(str::to_owned)),
        (
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            Some((spec.workload.memory.0 >> 20).max(1).to_string()),
        ),
        ("AWS_LAMBDA_FUNCTION_NAME", Some(name.clone())),
        ("AWS_LAMBDA_FUNCTION_VERSION", Some(VERSION.to_owned())),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", Some(start.to_owned())),
        (
            "AWS_LAMBDA_LOG_GROUP_NAME",
            Some(format!("/aws/lambda/{name}")),
        ),
        (
            "AWS_LAMBDA_LOG_STREAM_NAME",
            Some(facts.log_stream.to_owned()),
        ),
        (
            "AWS_LAMBDA_MAX_CONCURRENCY",
            Some(spec.workload.scale.concurrency)
                .filter(|most| *most > 1)
                .map(|most| most.to_string()),
        ),
        ("AWS_LAMBDA_RUNTIME_API", Some(facts.api.to_string())),
        ("LAMBDA_RUNTIME_DIR", Some(text(facts.runtime_dir))),
        ("LAMBDA_TASK_ROOT", Some(text(facts.task_root))),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
