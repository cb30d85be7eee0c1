//! `run.container`: which image, and how it is run.

use std::collections::BTreeMap;

use model::{Run, app::Pull};

use crate::{
    reader::{Reader, shown},
    run::read_command,
    tree::{Key, Node},
};

/// Keys of `run.container`.
pub(crate) const KEYS: &[&str] = &["image", "command", "user", "volumes", "pull", "writable"];

/// The longest name of an image that engines take.
const MAX_IMAGE: usize = 512;

pub(crate) fn read(reader: &mut Reader<'_>, key: &Key, node: &Node) -> Option<Run> {
    let fields = reader.fields(node, key.at, KEYS)?;
    let image = fields.required(reader, "image", "image: registry.example.com/catalog:1.2");
    let image = image.and_then(|node| read_image(reader, node));
    let command = fields.get("command").map(|node| read_command(reader, node));
    let user = fields.get("user").and_then(|node| read_user(reader, node));
    let volumes = fields.get("volumes").map(|node| read_volumes(reader, node));
    let pull = fields.get("pull").and_then(|node| {
        Some(match reader.word(node, &["missing", "always", "never"])? {
            "always" => Pull::Always,
            "never" => Pull::Never,
            _ => Pull::Missing,
        })
    });
    let writable = fields.get("writable").is_some_and(|node| reader.flag(node));
    Some(Run::Container {
        image: image?,
        command: command.map_or_else(Vec::new, |words| words.into_iter().map(|w| w.0).collect()),
        user,
        volumes: volumes.unwrap_or_default(),
        pull: pull.unwrap_or_default(),
        writable,
    })
}

/// A reference to an image; the engine knows more of those than can be checked here.
fn read_image(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let image = reader.string(node, "an image")?;
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    if image.len() > MAX_IMAGE || !image.bytes().all(known) || image.contains("://") {
        reader
            .error(node.at, format!("`{}` is not an image", shown(&image)))
            .help(
                "`name:tag` or `name@sha256:…`, with the registry before it where it is another's",
            );
        return None;
    }
    Some(image)
}

/// A name or a number of the image's, with or without a group.
fn read_user(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = match node.value {
        crate::tree::Value::Number(_) => reader.raw(node).to_owned(),
        _ => reader.string(node, "a user")?,
    };
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b);
    if !text.bytes().all(known) {
        reader
            .error(node.at, format!("`{}` is not a user", shown(&text)))
            .help("a name or a number, `user` or `user:group`");
        return None;
    }
    Some(text)
}

/// Names of volumes, each with the place where it is mounted.
fn read_volumes(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, String> {
    let mut volumes = BTreeMap::new();
    for (key, node) in reader.entries(node, "volumes, each with its place: `data: /var/lib/data`") {
        let name = reader.name(key.at, &key.text);
        let Some(place) = reader.string(node, "a path in the container") else {
            continue;
        };
        let parts = || place.split('/').skip(1);
        let sound = place.starts_with('/')
            && parts().all(|part| !part.is_empty() && part != "." && part != "..")
            && !place.contains([':', '\0']);
        if !sound {
            reader
                .error(
                    node.at,
                    format!("`{}` is not a place for a volume", shown(&place)),
                )
                .help("an absolute path in the container, such as `/var/lib/data`");
        } else if volumes.values().any(|other| *other == place) {
            reader.error(node.at, format!("`{place}` has another volume already"));
        }
        if let Some(name) = name {
            volumes.insert(name.to_string(), place);
        }
    }
    volumes
}
