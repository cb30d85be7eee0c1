//! `run.container`: which image, and how it is run.

use std::collections::BTreeMap;

use model::{
    Name, Run,
    app::{Pull, RegistryLogin},
};

use crate::{
    reader::{Reader, shown},
    run::read_command,
    scalars::is_variable,
    tree::{Bytes, Key, Node, Value},
};

/// Keys of `run.container`.
pub(crate) const KEYS: &[&str] = &[
    "image", "command", "user", "volumes", "ports", "login", "pull", "writable",
];
/// Keys of `login`.
pub(crate) const LOGIN_KEYS: &[&str] = &["user", "password"];

/// Most ports beside `$PORT`.
const MAX_PORTS: usize = 16;
/// Beginnings of variables that are the platform's, or every program's.
const TAKEN: &[&str] = &["K_", "TANGELO_", "AWS_"];

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
    let ports = fields.get("ports").map(|node| read_ports(reader, node));
    let login = fields
        .entry("login")
        .map(|(key, node)| read_login(reader, key, node));
    let writable = fields.get("writable").is_some_and(|node| reader.flag(node));
    Some(Run::Container {
        image: image?,
        command: command.map_or_else(Vec::new, |words| words.into_iter().map(|w| w.0).collect()),
        user,
        volumes: volumes.unwrap_or_default(),
        pull: pull.unwrap_or_default(),
        writable,
        ports: ports.unwrap_or_default(),
        login: login.flatten(),
    })
}

/// Ports beside `$PORT`: `[metrics]`, or `{metrics: METRICS_PORT}` where the image reads a variable of its own.
fn read_ports(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<Name, String> {
    let mut ports: BTreeMap<Name, String> = BTreeMap::new();
    let mut add =
        |reader: &mut Reader<'_>, at: Bytes, name: Option<Name>, variable: Option<String>| {
            let Some(name) = name else { return };
            let variable = variable.unwrap_or_else(|| {
                let name = name.as_str().replace('-', "_").to_ascii_uppercase();
                format!("PORT_{name}")
            });
            if ports.values().any(|other| *other == variable) {
                reader.error(at, format!("`{variable}` is another port's already"));
            } else if ports.len() >= MAX_PORTS {
                reader.error(
                    at,
                    format!("there are at most {MAX_PORTS} ports beside `$PORT`"),
                );
            } else if ports.insert(name.clone(), variable).is_some() {
                reader.error(at, format!("two ports are named `{name}`"));
            }
        };
    if let Value::Map(entries) = &node.value {
        for (key, node) in entries {
            let name = reader.name(key.at, &key.text);
            let variable = match node.value {
                Value::Null => None,
                _ => match read_variable(reader, node) {
                    None => continue,
                    variable => variable,
                },
            };
            add(reader, key.at, name, variable);
        }
        return ports;
    }
    for node in reader.list(
        node,
        "names of ports: `[metrics]`, or `{metrics: METRICS_PORT}`",
    ) {
        if matches!(node.value, Value::Number(_)) {
            fixed(reader, node);
            continue;
        }
        if let Some(text) = reader.string(node, "the name of a port") {
            let name = reader.name(node.at, &text);
            add(reader, node.at, name, None);
        }
    }
    ports
}

/// A number would be the same for every instance, and for the revision that comes after this one.
fn fixed(reader: &mut Reader<'_>, node: &Node) {
    reader
        .error(node.at, "a port is given by Tangelo, another one to each instance")
        .help("name it (`[metrics]`, told as `$PORT_METRICS`), or name the variable that the image takes its port from (`{metrics: METRICS_PORT}`)");
}

fn read_variable(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    if matches!(node.value, Value::Number(_)) {
        fixed(reader, node);
        return None;
    }
    let text = reader.string(node, "the name of a variable")?;
    if !is_variable(&text) {
        reader
            .error(
                node.at,
                format!("`{}` is no name of a variable", shown(&text)),
            )
            .help("letters, digits and `_`: `METRICS_PORT`");
        return None;
    }
    let taken = ["PORT", "HOST", "PATH", "HOME"].contains(&text.as_str())
        || TAKEN.iter().any(|prefix| text.starts_with(prefix));
    if taken {
        reader.error(
            node.at,
            format!("`{text}` is not for a port: it says something else"),
        );
        return None;
    }
    Some(text)
}

/// `{user: robot, password: REGISTRY_PASSWORD}`: the password is the name of a secret.
fn read_login(reader: &mut Reader<'_>, key: &Key, node: &Node) -> Option<RegistryLogin> {
    let example = "login: {user: robot, password: REGISTRY_PASSWORD}";
    let fields = reader.fields(node, key.at, LOGIN_KEYS)?;
    let user = fields.required(reader, "user", example)?;
    let user = reader.string(user, "a user of the registry")?;
    let password = fields.required(reader, "password", example)?;
    let password = reader.secret(password, "password", "REGISTRY_PASSWORD")?;
    if user.is_empty() || user.len() > 255 || user.contains([':', '\n', '\r', '\0']) {
        reader.error(key.at, "a user of a registry is a text without a colon");
        return None;
    }
    Some(RegistryLogin { user, password })
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
        Value::Number(_) => reader.raw(node).to_owned(),
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
