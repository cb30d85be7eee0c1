//! `tangelo deploy`: check, build, upload what the server lacks, switch.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use manifest::Parsed;
use model::{App, BlobHash, ByteSize, Limits, Run, code};
use platform::deploy::{Deployed, Request};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::{Cli, contracts, progress};
use crate::{
    build::{self, Look},
    client::Client,
    show,
    upload::{self, Artifacts, Hashes},
};

/// Build an app and make it live
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The folder of tangelo.yaml, or the file itself
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Deploy what is there without building
    #[arg(long)]
    no_build: bool,
}

/// An app as it lies in a folder.
pub(crate) struct Source {
    pub(crate) folder: PathBuf,
    pub(crate) text: String,
    pub(crate) app: App,
    /// The files of its contracts, by their paths in the folder of these.
    pub(crate) contracts: BTreeMap<String, String>,
    /// Its warnings as people read them; empty without any.
    pub(crate) warnings: String,
    name: String,
    parsed: Parsed,
}

/// The manifest at `path`: the file itself, or the folder of `tangelo.yaml`.
///
/// # Errors
/// When there is none, with what to do.
pub(crate) fn manifest_at(path: &Path) -> Result<(PathBuf, String)> {
    let file = if path.is_dir() {
        path.join(manifest::FILE_NAME)
    } else {
        path.to_owned()
    };
    let other = file.with_extension("yml");
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok((file, text)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot read {}", file.display()))
        }
        Err(_) if other.is_file() => fail!(
            FILE_FAILED,
            "there is no {}, but a {}: rename it (`mv {1} {0}`)",
            file.display(),
            other.display()
        ),
        Err(_) => fail!(
            FILE_FAILED,
            "there is no {}: `tangelo init` makes an app, and every command takes the path of one",
            file.display()
        ),
    }
}

impl Source {
    /// Reads and checks the manifest at `path`.
    ///
    /// # Errors
    /// With the rendered mistakes.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let (file, text) = manifest_at(path)?;
        let name = file.display().to_string();
        let mut parsed = manifest::parse(&text, &name, &Limits::default());
        let Some(app) = parsed.app.take() else {
            let mistakes = manifest::render(&parsed.diagnostics, &text, &name);
            fail!(MANIFEST_INVALID, "{name} has mistakes\n{mistakes}")
        };
        // What other apps might make right the server says, which sees them all.
        let said = parsed.diagnostics.iter();
        let said = said.filter(|diagnostic| diagnostic.code != code::TYPE_NOT_PUBLISHED);
        let mut warnings = manifest::render(&said.cloned().collect::<Vec<_>>(), &text, &name);
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => ".".into(),
        };
        let contracts = contracts::files(&folder)?;
        for finding in contracts::look(&app, &contracts) {
            // What keeps it from being live the server says, with what is live already.
            if !finding.is_error() && !finding.alone {
                let _ = writeln!(warnings, "{finding}");
            }
        }
        Ok(Self {
            folder,
            contracts,
            text,
            app,
            warnings,
            name,
            parsed,
        })
    }

    /// Says its warnings on stderr.
    pub(crate) fn warn(&self) {
        if !self.warnings.is_empty() {
            anstream::eprintln!("{}", self.warnings);
        }
    }

    /// All that its workloads run, read and hashed.
    pub(crate) fn artifacts(&self, hashes: &mut Hashes) -> Result<Artifacts> {
        self.check_files()?;
        upload::collect(&self.folder, &self.app, hashes)
    }

    /// Whether all that its workloads run is there, once it was built.
    fn check_files(&self) -> Result<()> {
        let (text, name) = (&self.text, &self.name);
        let missing = build::missing(&self.folder, &self.parsed, text, name, Look::Built);
        if missing.is_empty() {
            return Ok(());
        }
        let rendered = manifest::render(&missing, text, name);
        fail!(
            ARTIFACT_MISSING,
            "{name} names files that are not there\n{rendered}"
        )
    }
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Deploy) -> Result<ExitCode> {
    let source = Source::read(&ask.path)?;
    source.warn();
    if !ask.no_build {
        build::run(&source.folder, &source.app, true, &mut |line| {
            anstream::eprintln!("{line}")
        })?;
    }
    let artifacts = source.artifacts(&mut Hashes::default())?;
    let deployed = push(client, &source, &artifacts).await?;
    if cli.json {
        show::json(&deployed)?;
    } else {
        print(&deployed);
    }
    Ok(ExitCode::SUCCESS)
}

/// A component of this size or more takes its time to compile.
const LARGE: u64 = 1 << 20;

/// Files that are uploaded at the same time.
const AT_ONCE: usize = 16;

/// Uploads and switches; says on stderr what takes its time.
pub(crate) async fn push(
    client: &Client,
    source: &Source,
    artifacts: &Artifacts,
) -> Result<Deployed> {
    let hashes: Vec<BlobHash> = artifacts.sources.keys().copied().collect();
    let wanted: Wanted = client
        .post(
            "/v1/blobs/missing",
            &serde_json::json!({ "hashes": hashes }),
        )
        .await?;
    say_what_is_compiled(source, artifacts, &wanted.missing);
    upload_missing(client, artifacts, wanted.missing).await?;
    let request = Request {
        manifest: source.text.clone(),
        files: artifacts.files.clone(),
        contracts: source.contracts.clone(),
        expect: None,
    };
    progress::show(
        client,
        source.app.name.as_str(),
        client.post("/v1/deploy", &request),
    )
    .await
}

/// Uploads what the server lacks, many files at a time: each waits for a disk, and a handler may bring thousands.
async fn upload_missing(
    client: &Client,
    artifacts: &Artifacts,
    missing: Vec<BlobHash>,
) -> Result<()> {
    let mut under_way = JoinSet::new();
    for hash in missing {
        let path = artifacts.sources.get(&hash);
        let path = path
            .context("the server asks for a file that was not offered")?
            .clone();
        if under_way.len() == AT_ONCE
            && let Some(uploaded) = under_way.join_next().await
        {
            uploaded??;
        }
        let client = client.clone();
        under_way.spawn(async move { upload_one(&client, hash, &path).await });
    }
    while let Some(uploaded) = under_way.join_next().await {
        uploaded??;
    }
    Ok(())
}

async fn upload_one(client: &Client, hash: BlobHash, path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    client
        .put(&format!("/v1/blobs/{hash}"), bytes.into())
        .await
        .with_context(|| format!("uploading {}", path.display()))
}

fn say_what_is_compiled(source: &Source, artifacts: &Artifacts, missing: &[BlobHash]) {
    for (name, files) in &artifacts.files {
        let is_wasm = matches!(source.app.workloads[name].run, Run::Wasm { .. });
        let large = files
            .iter()
            .find(|file| is_wasm && file.size >= LARGE && missing.contains(&file.hash));
        if let Some(file) = large {
            let size = ByteSize(file.size);
            anstream::eprintln!("compiling {name} ({size}); what is live serves on meanwhile");
        }
    }
}

#[derive(Deserialize)]
struct Wanted {
    missing: Vec<BlobHash>,
}

/// One line of what a deploy changed.
pub(crate) fn print(deployed: &Deployed) {
    let names = |list: &[model::WorkloadName]| {
        list.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    anstream::println!("{} is live at revision {}", deployed.app, deployed.revision);
    if !deployed.changed.is_empty() {
        anstream::println!("  changed: {}", names(&deployed.changed));
    }
    if !deployed.removed.is_empty() {
        anstream::println!("  removed: {}", names(&deployed.removed));
    }
    for note in &deployed.notes {
        anstream::println!("  note: {note}");
    }
}
