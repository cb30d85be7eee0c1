//! `tangelo init`: a small app that works, from a template, in a folder that has none of its files yet; or an event more for an app
//! that is there.

mod event;
mod insert;
mod templates;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use model::{Name, code};
use serde::Serialize;

use templates::Template;

use crate::failure::Coded;

/// What to write, and where.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// What the app begins as
    #[arg(long, short, value_enum, default_value = "js")]
    template: Template,
    /// Begin with an event of this type, such as `order.created`: its contract, its type, who publishes it and who takes it; in the
    /// folder of an app, add it to that
    #[arg(long, value_name = "TYPE", conflicts_with = "template")]
    event: Option<String>,
    /// The name of the app; that of the folder unless said
    #[arg(long)]
    name: Option<String>,
    /// The folder, made when missing
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// What was written.
#[derive(Debug, Serialize)]
pub(crate) struct Written {
    /// The folder of the app.
    pub(crate) folder: PathBuf,
    /// Relative to it.
    pub(crate) files: Vec<PathBuf>,
    /// Files that were there, and that something was added to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) changed: Vec<PathBuf>,
    /// What `tangelo.yaml` is to get by hand, where it is written in a way that nothing could be added to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) by_hand: String,
    /// What to do now.
    pub(crate) next: String,
}

/// Writes what is asked for.
///
/// # Errors
/// When any of the files is there already: nothing is written then.
pub(crate) fn run(ask: &Ask) -> Result<Written> {
    if let Some(kind) = &ask.event
        && ask.folder.join(manifest::FILE_NAME).is_file()
    {
        return add(&ask.folder, kind, ask.name.as_deref());
    }
    let begin = match &ask.event {
        Some(kind) => Begin::Event(kind),
        None => Begin::Template(ask.template),
    };
    let files = write(&ask.folder, begin, ask.name.as_deref())?;
    let folder = match ask.folder.to_string_lossy() {
        here if here == "." => String::new(),
        folder => format!("cd {folder} && "),
    };
    let then = match begin {
        Begin::Event(kind) => format!(
            "curl -d '{{\"id\": \"1\"}}' http://127.0.0.1:8080/{}",
            event::name(kind)
        ),
        Begin::Template(_) => "http://127.0.0.1:8080/hello?name=you".to_owned(),
    };
    Ok(Written {
        folder: ask.folder.clone(),
        files,
        changed: Vec::new(),
        by_hand: String::new(),
        next: format!("{folder}tangelo up, then {then}"),
    })
}

/// Adds an event to the app in `folder`.
///
/// # Errors
/// When its manifest has mistakes, the type has a contract, or any of the new files is there already: nothing is written then.
fn add(folder: &Path, kind: &str, name: Option<&str>) -> Result<Written> {
    let path = folder.join(manifest::FILE_NAME);
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let added = event::add(kind, &text, folder, name)?;
    let files = write_new(folder, added.files)?;
    let mut changed = Vec::new();
    if let Some(manifest) = added.manifest {
        std::fs::write(&path, manifest)
            .with_context(|| format!("cannot write {}", path.display()))?;
        changed.push(PathBuf::from(manifest::FILE_NAME));
    }
    let contract = format!("say in contracts/{kind}/1.json what the event holds, then tangelo up");
    let next = match added.route {
        Some(route) => {
            format!("{contract}, then curl -d '{{\"id\": \"1\"}}' http://127.0.0.1:8080{route}")
        }
        None => contract,
    };
    Ok(Written {
        folder: folder.to_owned(),
        files,
        changed,
        by_hand: added.by_hand,
        next,
    })
}

/// What an app begins with.
#[derive(Debug, Clone, Copy)]
enum Begin<'a> {
    Template(Template),
    /// An event of this type.
    Event(&'a str),
}

/// Writes what the app begins with into `folder`, which is made when missing. The app is named `name`, or as the folder is.
/// Answers with the files written, relative to the folder.
///
/// # Errors
/// When any of its files is there already: nothing is written then.
fn write(folder: &Path, begin: Begin<'_>, name: Option<&str>) -> Result<Vec<PathBuf>> {
    let app = match name {
        Some(name) => Name::new(name).coded(code::BAD_ARGUMENT, || format!("--name {name}"))?,
        None => name_of(folder)?,
    };
    let files = files(begin, &app)?;
    write_new(folder, files)
}

/// Writes files that are not there yet.
///
/// # Errors
/// When any of them is there already: nothing is written then.
fn write_new(folder: &Path, files: Vec<(PathBuf, String)>) -> Result<Vec<PathBuf>> {
    let there: Vec<_> = files
        .iter()
        .filter(|(path, _)| folder.join(path).exists())
        .map(|(path, _)| path.display().to_string())
        .collect();
    if !there.is_empty() {
        fail!(
            BAD_ARGUMENT,
            "{} has {} already; nothing was written",
            folder.display(),
            there.join(", ")
        );
    }
    for (path, text) in &files {
        let path = folder.join(path);
        let parent = path.parent().context("a file is in a folder")?;
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

fn files(begin: Begin<'_>, app: &Name) -> Result<Vec<(PathBuf, String)>> {
    let schema = serde_json::to_string_pretty(&manifest::schema())? + "\n";
    let mut files = match begin {
        Begin::Event(kind) => event::files(kind, app)?,
        Begin::Template(template) => {
            let files = template.files().iter();
            let named = |text: &str| text.replace("{{app}}", app.as_str());
            files
                .map(|(path, text)| (PathBuf::from(path), named(text)))
                .collect()
        }
    };
    files.push((PathBuf::from("tangelo.schema.json"), schema));
    Ok(files)
}

/// A name out of the folder's, with what a name cannot hold left out.
fn name_of(folder: &Path) -> Result<Name> {
    let folder = std::path::absolute(folder)?;
    let folder_name = folder
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
    let mut name = String::new();
    for c in folder_name.chars() {
        match c {
            'a'..='z' => name.push(c),
            '0'..='9' if !name.is_empty() => name.push(c),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let cut = &name[..name.len().min(model::name::MAX_NAME)];
    Ok(Name::new(cut.trim_end_matches('-')).unwrap_or_else(|_| Name::literal("app")))
}

#[cfg(test)]
mod tests {
    use model::Limits;

    use super::*;

    #[test]
    fn every_template_is_an_app_without_complaints() {
        for template in Template::ALL {
            let folder = tempfile::tempdir().expect("a folder");
            let written = write(folder.path(), Begin::Template(*template), Some("greeter"))
                .expect("an empty folder");
            assert!(
                written
                    .iter()
                    .all(|path| folder.path().join(path).is_file())
            );
            let text =
                std::fs::read_to_string(folder.path().join("tangelo.yaml")).expect("written");
            assert!(text.starts_with("# yaml-language-server: $schema=./tangelo.schema.json"));
            let parsed = manifest::parse(&text, "tangelo.yaml", &Limits::default());
            assert_eq!(parsed.diagnostics, [], "{template:?}");
            assert_eq!(parsed.app.expect("no errors").name.as_str(), "greeter");
            let missing = parsed
                .artifacts
                .iter()
                .filter(|file| !file.built && !folder.path().join(&file.path).exists());
            assert_eq!(missing.count(), 0, "{template:?}");
        }
    }

    #[test]
    fn the_readme_asks_for_what_every_template_serves() {
        let readme = include_str!("../../../../README.md");
        assert!(readme.contains("curl 'http://127.0.0.1:8080/hello?name=you'"));
        for template in Template::ALL {
            let manifest = template
                .files()
                .iter()
                .find(|(path, _)| *path == "tangelo.yaml");
            let (_, text) = manifest.expect("has one");
            assert!(text.contains("path: /hello,"), "{template:?}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("hello.js"), "mine").expect("written");
        let error =
            write(folder.path(), Begin::Template(Template::Js), None).expect_err("a file is there");
        assert!(
            error
                .to_string()
                .contains("hello.js already; nothing was written"),
            "{error}"
        );
        let left: Vec<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn apps_are_named_as_their_folder() {
        for (folder, name) in [
            ("/tmp/My Shop (2)", "my-shop-2"),
            ("/tmp/42", "app"),
            ("/", "app"),
            ("/tmp/shop-", "shop"),
        ] {
            assert_eq!(
                name_of(Path::new(folder)).expect("a path").as_str(),
                name,
                "{folder}"
            );
        }
    }
}
