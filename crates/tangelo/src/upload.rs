//! What a deploy uploads: the files of each workload's artifact, found beside the manifest and named by their hash.

use std::{
    collections::{BTreeMap, HashMap},
    fs::Metadata,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use model::{App, BlobHash, Limits, Run, WorkloadName, code};
use platform::deploy::{FileEntry, Files};
use sha2::{Digest, Sha256};

use crate::failure::Coded;

/// Folders that are never part of an artifact.
const SKIPPED: &[&str] = &[".git", ".tangelo", "__pycache__", ".venv"];
/// What marks a folder that can be made again, as cargo's `target` does (Cache Directory Tagging Specification).
const CACHE_TAG: &str = "CACHEDIR.TAG";

/// The most files that are read for one workload.
const MAX_FILES: usize = 100_000;

/// The artifacts of an app, and where each file is on this machine.
pub(crate) struct Artifacts {
    pub(crate) files: BTreeMap<WorkloadName, Files>,
    pub(crate) sources: BTreeMap<BlobHash, PathBuf>,
}

/// Hashes of files that were read before, so that a save in a large app reads what was saved and not the whole app.
#[derive(Default)]
pub(crate) struct Hashes(HashMap<PathBuf, (Stamp, BlobHash)>);

/// What changes when a file's contents do.
#[derive(PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: SystemTime,
    #[cfg(unix)]
    inode: u64,
}

/// A file that was saved so lately may be saved again without a newer time.
const SETTLED: Duration = Duration::from_secs(2);

/// Reads and hashes everything that `app` is made of, below `folder`.
pub(crate) fn collect(folder: &Path, app: &App, hashes: &mut Hashes) -> Result<Artifacts> {
    let mut artifacts = Artifacts {
        files: BTreeMap::new(),
        sources: BTreeMap::new(),
    };
    let bounds = Bounds::of(folder);
    for (name, workload) in &app.workloads {
        let mut files = Files::new();
        for path in roots(folder, &workload.run) {
            let (root, sources) = (folder.join(&path), &mut artifacts.sources);
            // What is not there is told below.
            let within = if root.exists() {
                bounds.hold(&root)
            } else {
                Ok(())
            };
            within
                .and_then(|()| gather(&bounds, &path, &mut files, sources, hashes))
                .coded(code::ARTIFACT_MISSING, || {
                    format!("workload `{name}`: `{path}`")
                })?;
        }
        if !files.is_empty() {
            files.sort();
            files.dedup();
            artifacts.files.insert(name.clone(), files);
        }
    }
    Ok(artifacts)
}

/// Whether a word of a command is a file of the app: one that begins with `/` is of the machine.
fn is_beside(folder: &Path, word: &str) -> bool {
    Path::new(word).is_relative() && folder.join(word).is_file()
}

/// What a workload names, relative to the manifest.
fn roots(folder: &Path, run: &Run) -> Vec<String> {
    match run {
        Run::Wasm { component, .. } => vec![component.clone()],
        Run::Lambda { code, .. } => vec![code.clone()],
        Run::Process { command, files } => {
            // `./x` is ours; `x.py` is too when it is there; everything else is found on PATH.
            let ours = command
                .iter()
                .filter(|word| word.starts_with("./") || is_beside(folder, word));
            ours.map(|word| word.trim_start_matches("./").to_owned())
                .chain(files.iter().cloned())
                .collect()
        }
        Run::Webhook(webhook) => webhook.ca.iter().cloned().collect(),
        Run::Kafka(kafka) => kafka.tls.iter().filter_map(|tls| tls.ca.clone()).collect(),
        Run::External { .. } | Run::Pull(_) | Run::Container { .. } => Vec::new(),
    }
}

/// The folder that an app is made of: no link leads out of it.
pub(crate) struct Bounds {
    folder: PathBuf,
    real: PathBuf,
}

impl Bounds {
    /// Those of the app in `folder`.
    pub(crate) fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            // One that is not there holds nothing, and that is told where its files are looked for.
            real: folder.canonicalize().unwrap_or_else(|_| folder.to_owned()),
        }
    }

    /// # Errors
    /// When a path that is there leads out of the folder: others would get, with the app, what is not of it.
    pub(crate) fn hold(&self, path: &Path) -> Result<()> {
        let end = path
            .canonicalize()
            .with_context(|| format!("cannot follow {}", path.display()))?;
        if !end.starts_with(&self.real) {
            bail!(
                "{} leads out of the app's folder, to {}: copy what belongs to the app into it",
                path.display(),
                end.display()
            );
        }
        Ok(())
    }
}

/// Reads and hashes what is at `path`, which does not lead out of the bounds.
fn gather(
    bounds: &Bounds,
    path: &str,
    files: &mut Files,
    sources: &mut BTreeMap<BlobHash, PathBuf>,
    hashes: &mut Hashes,
) -> Result<()> {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let full = bounds.folder.join(path);
    let data = std::fs::metadata(&full).context("is not there: was it built?")?;
    if !data.is_dir() && !data.is_file() {
        bail!("`{path}` is neither a file nor a folder, and cannot be part of an artifact");
    }
    // Before it is read: the server's own limit is only met after that.
    let most = Limits::default().artifact;
    if data.len() > most.0 || files.len() > MAX_FILES {
        bail!(
            "is too large for an artifact: more than {most} or {MAX_FILES} files, `{path}` among them"
        );
    }
    if data.is_dir() && leads_back(&full)? {
        bail!("`{path}` is a link to a folder that it is itself in");
    }
    if !data.is_dir() {
        let (hash, size) = hashes.of(&full, &data)?;
        files.push(FileEntry {
            path: path.to_owned(),
            hash,
            size,
            executable: is_executable(&data),
        });
        sources.insert(hash, full);
        return Ok(());
    }
    for entry in std::fs::read_dir(&full)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            bail!("holds a file whose name is not UTF-8")
        };
        if SKIPPED.contains(&name) || full.join(name).join(CACHE_TAG).is_file() {
            continue;
        }
        let child = if path.is_empty() || path == "." {
            name.to_owned()
        } else {
            format!("{path}/{name}")
        };
        if entry.file_type()?.is_symlink() {
            bounds.hold(&entry.path())?;
        }
        gather(bounds, &child, files, sources, hashes)?;
    }
    Ok(())
}

/// Whether a folder is a link to one that it is itself in.
fn leads_back(path: &Path) -> io::Result<bool> {
    if !std::fs::symlink_metadata(path)?.is_symlink() {
        return Ok(false);
    }
    let end = path.canonicalize()?;
    let parent = path.parent().map(Path::canonicalize).transpose()?;
    Ok(parent.is_some_and(|parent| parent.starts_with(&end)))
}

impl Hashes {
    /// The hash and size of a file.
    fn of(&mut self, file: &Path, data: &Metadata) -> io::Result<(BlobHash, u64)> {
        let stamp = Stamp::of(data)?;
        if let Some((known, hash)) = self.0.get(file)
            && *known == stamp
        {
            return Ok((*hash, stamp.size));
        }
        let bytes = std::fs::read(file)?;
        let hash = BlobHash(Sha256::digest(&bytes).into());
        if stamp.is_settled() {
            self.0.insert(file.to_owned(), (stamp, hash));
        }
        Ok((hash, bytes.len() as u64))
    }
}

impl Stamp {
    fn of(data: &Metadata) -> io::Result<Self> {
        Ok(Self {
            size: data.len(),
            modified: data.modified()?,
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(data),
        })
    }

    /// Whether a later change would be seen in the time of the file.
    #[allow(
        clippy::disallowed_methods,
        reason = "compared with times that the file system gave"
    )]
    fn is_settled(&self) -> bool {
        let age = SystemTime::now().duration_since(self.modified);
        age.is_ok_and(|age| age > SETTLED)
    }
}

#[cfg(unix)]
fn is_executable(data: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    data.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};

    use super::*;

    fn hash(file: &Path, hashes: &mut Hashes) -> BlobHash {
        let data = std::fs::metadata(file).expect("is there");
        hashes.of(file, &data).expect("is read").0
    }

    #[test]
    fn caches_are_left_out_and_a_folder_that_is_only_called_target_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in ["code/target", "code/cache", "code/.git"] {
            std::fs::create_dir_all(folder.path().join(path)).expect("makes a folder");
            std::fs::write(folder.path().join(path).join("x"), path).expect("writes");
        }
        std::fs::write(folder.path().join("code/cache").join(CACHE_TAG), "").expect("writes");
        let (mut files, mut sources) = (Files::new(), BTreeMap::new());
        gather(
            &Bounds::of(folder.path()),
            "code",
            &mut files,
            &mut sources,
            &mut Hashes::default(),
        )
        .expect("reads");
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["code/target/x"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles_nor_to_devices() {
        use std::os::unix::fs::symlink;
        let collect = |to: &str| {
            let folder = tempfile::tempdir().expect("a folder");
            let code = folder.path().join("code");
            std::fs::create_dir_all(&code).expect("makes a folder");
            std::fs::write(folder.path().join("beside"), "b").expect("writes");
            symlink(to, code.join("link")).expect("links");
            let (mut files, mut sources) = (Files::new(), BTreeMap::new());
            let hashes = &mut Hashes::default();
            gather(
                &Bounds::of(folder.path()),
                "code",
                &mut files,
                &mut sources,
                hashes,
            )
            .map(|()| files.len())
            .map_err(|error| error.to_string())
        };
        assert_eq!(collect("../beside"), Ok(1));
        assert!(collect("..").is_err_and(|e| e.contains("itself in")));
        let outside = tempfile::tempdir().expect("a folder");
        let outside = outside.path().to_str().expect("is UTF-8");
        for to in [outside, "/etc/passwd", "/dev/zero", "../../.."] {
            assert!(
                collect(to).is_err_and(|e| e.contains("leads out of the app's folder")),
                "{to}"
            );
        }
    }

    #[test]
    fn a_file_is_read_again_when_it_changed_or_may_have() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a");
        let mut hashes = Hashes::default();
        std::fs::write(&file, "one").expect("writes");
        let one = hash(&file, &mut hashes);
        assert!(hashes.0.is_empty(), "it may be saved again at once");
        std::fs::write(&file, "two").expect("writes");
        assert_ne!(hash(&file, &mut hashes), one);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let set = |time| {
            let file = File::options().write(true).open(&file).expect("opens");
            file.set_times(FileTimes::new().set_modified(time))
                .expect("sets");
        };
        set(old);
        let two = hash(&file, &mut hashes);
        assert_eq!((hashes.0.len(), hash(&file, &mut hashes)), (1, two));
        std::fs::write(&file, "six").expect("writes");
        set(old + SETTLED);
        assert_ne!(hash(&file, &mut hashes), two);
    }
}
