//! The files of contracts beside a manifest, as they are deployed.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    path::{Path, PathBuf},
};

use anyhow::Result;
use contract::{FOLDER, MAX_BYTES, MAX_FILES};
use model::code;

use crate::{
    failure::{Coded, failure},
    upload::Bounds,
};

/// The texts of all files below `contracts`, by their paths in it; none when there is no such folder. A link may lead to a file of the
/// app's folder, and nowhere else.
///
/// # Errors
/// `BAD_CONTRACT` when a file cannot be read, leads out of the folder, or there are more or larger ones than a deploy takes.
pub(crate) fn files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let root = folder.join(FOLDER);
    let bounds = Bounds::of(folder);
    let (mut files, mut folders, mut bytes) = (BTreeMap::new(), vec![PathBuf::new()], 0);
    while let Some(inner) = folders.pop() {
        let here = root.join(&inner);
        let listed = match std::fs::read_dir(&here) {
            Ok(listed) => listed,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && here == root.join("") => {
                break;
            }
            Err(error) => return Err(error).coded(code::BAD_CONTRACT, || cannot_read(&here)),
        };
        for entry in listed {
            let path = inner.join(entry?.file_name());
            let full = root.join(&path);
            let data = followed(&bounds, &full)?;
            let name = path.to_str().ok_or_else(|| not_text(&full))?;
            if data.is_dir() {
                folders.push(path);
            } else if name.ends_with(".json") {
                bytes += data.len();
                if files.len() >= MAX_FILES || bytes > MAX_BYTES as u64 {
                    fail!(
                        BAD_CONTRACT,
                        "{} holds more than {MAX_FILES} files or {MAX_BYTES} bytes",
                        root.display()
                    );
                }
                let text = std::fs::read_to_string(&full);
                let text = text.coded(code::BAD_CONTRACT, || cannot_read(&full))?;
                files.insert(name.to_owned(), text);
            }
        }
    }
    Ok(files)
}

/// What is at a path, or at the end of the link that it is.
fn followed(bounds: &Bounds, full: &Path) -> Result<Metadata> {
    let data = std::fs::symlink_metadata(full).coded(code::BAD_CONTRACT, || cannot_read(full))?;
    if !data.is_symlink() {
        return Ok(data);
    }
    bounds
        .hold(full)
        .coded(code::BAD_CONTRACT, || cannot_read(full))?;
    let data = std::fs::metadata(full).coded(code::BAD_CONTRACT, || cannot_read(full))?;
    if !data.is_file() {
        fail!(
            BAD_CONTRACT,
            "{} is a link to something else than a file: put the files themselves there",
            full.display()
        );
    }
    Ok(data)
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

fn not_text(path: &Path) -> anyhow::Error {
    let message = format!("the name of {} is not UTF-8", path.display());
    failure(code::BAD_CONTRACT, message)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_leads_to_a_file_of_the_app_and_nowhere_else() {
        let outer = tempfile::tempdir().expect("a folder");
        let app = outer.path().join("app");
        std::fs::create_dir_all(app.join("contracts/order.created")).expect("makes folders");
        std::fs::write(outer.path().join("secret.json"), "{}").expect("writes");
        std::fs::write(app.join("money.json"), "{}").expect("writes");
        let at = app.join("contracts/order.created/1.json");
        let read = |to: &str| {
            let _ = std::fs::remove_file(&at);
            symlink(to, &at).expect("links");
            files(&app).map_err(|error| format!("{error:#}"))
        };
        let inside = read("../../money.json").expect("is of the app");
        assert_eq!(inside["order.created/1.json"], "{}");
        for (to, why) in [
            ("../../../secret.json", "leads out of the app's folder"),
            ("/etc/passwd", "leads out of the app's folder"),
            ("/dev/zero", "leads out of the app's folder"),
            ("../..", "something else than a file"),
            ("../nothing.json", "No such file"),
        ] {
            let refused = read(to).expect_err(to);
            assert!(
                refused.contains(why) && refused.contains("TG0509"),
                "{to}: {refused}"
            );
        }
    }
}
