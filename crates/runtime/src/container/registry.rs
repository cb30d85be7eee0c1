//! Who one is to a registry: what the manifest says with one of the server's secrets, else what `podman login` and `docker login` have
//! written down.
//!
//! Only read, when an image is pulled, and passed to the engine; never logged or said. Programs that keep credentials
//! (`credHelpers`, `credsStore`) are not asked.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

/// The largest file of credentials that is read.
const MOST: u64 = 1 << 20;

/// The registry of names without one.
const USUAL: &str = "docker.io";

/// A user of a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(super) registry: String,
    pub(super) user: String,
    pub(super) password: String,
}

/// What is read of a file; what else is in it belongs to others.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Logins {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
}

impl Login {
    /// A user of the registry that `image` is from.
    pub(crate) fn of(image: &str, user: &str, password: String) -> Self {
        let name = full_name(image);
        let registry = name.split_once('/').map_or(USUAL, |(host, _)| host);
        Self {
            registry: registry.to_owned(),
            user: user.to_owned(),
            password,
        }
    }

    /// Its registry as engines are told it. Docker with the images of containerd passes a login over whose address is another than that
    /// of the image's registry (moby, `daemon/containerd/resolver.go`), and knows its own only as `docker login` writes it.
    pub(super) fn address(&self) -> String {
        match self.registry.as_str() {
            USUAL => "https://index.docker.io/v1/".to_owned(),
            other => other.to_owned(),
        }
    }
}

/// Where those files usually are, the most particular first: `home` is the user's folder, `own` that of what runs for
/// them (`XDG_RUNTIME_DIR`), and the others what `REGISTRY_AUTH_FILE` and `DOCKER_CONFIG` say.
#[must_use]
pub fn usual_logins(
    file: Option<&Path>,
    docker: Option<&Path>,
    own: Option<&Path>,
    home: Option<&Path>,
) -> Vec<PathBuf> {
    let below = |folder: Option<&Path>, path: &str| folder.map(|folder| folder.join(path));
    let all = [
        file.map(Path::to_owned),
        below(own, "containers/auth.json"),
        Some(PathBuf::from("/run/containers/0/auth.json")),
        below(home, ".config/containers/auth.json"),
        below(docker, "config.json"),
        below(home, ".docker/config.json"),
    ];
    all.into_iter().flatten().collect()
}

/// The first login among `files` for the registry of `image`.
pub(super) fn login(image: &str, files: &[PathBuf]) -> Option<Login> {
    files.iter().find_map(|file| {
        let read = read(file).and_then(|text| find(image, &text).map_err(io::Error::other));
        match read {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                // Without its words: they could quote what the file holds.
                let kind = error.kind();
                tracing::warn!(file = %file.display(), %kind, "a file of registry logins cannot be used");
                None
            }
        }
    })
}

fn read(file: &Path) -> io::Result<String> {
    if std::fs::metadata(file)?.len() > MOST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    std::fs::read_to_string(file)
}

/// The login in `text` whose registry, or part of one, is the longest that `image` begins with.
fn find(image: &str, text: &str) -> Result<Option<Login>, serde_json::Error> {
    let logins: Logins = serde_json::from_str(text)?;
    let name = full_name(image);
    let of = logins.auths.into_iter().filter_map(|(key, entry)| {
        let registry = registry(&key);
        let inside = name.strip_prefix(&registry)?;
        let fits = inside.is_empty() || inside.starts_with('/');
        let (user, password) = split(&entry.auth.filter(|_| fits)?)?;
        Some(Login {
            registry,
            user,
            password,
        })
    });
    Ok(of.max_by_key(|login| login.registry.len()))
}

/// `user:password`.
fn split(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    // Some programs end it with a zero byte.
    let password = password.trim_end_matches('\0');
    Some((user.to_owned(), password.to_owned()))
}

/// A registry as these files name it.
fn registry(key: &str) -> String {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let bare = bare.trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" => USUAL.to_owned(),
        other => other.to_owned(),
    }
}

/// The name of an image without tag and digest.
fn bare_name(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

/// Whether a name has neither a tag nor a digest.
pub(super) fn is_name_only(image: &str) -> bool {
    bare_name(image) == image
}

/// The name of an image with its registry, and without tag and digest.
fn full_name(image: &str) -> String {
    let name = bare_name(image);
    let host = name.split_once('/').map(|(host, _)| host);
    let has_host = host.is_some_and(|host| host.contains(['.', ':']) || host == "localhost");
    match (has_host, name.contains('/')) {
        (true, _) => name.to_owned(),
        (false, true) => format!("{USUAL}/{name}"),
        (false, false) => format!("{USUAL}/library/{name}"),
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a login at {}", self.registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(text: &str) -> String {
        STANDARD.encode(text)
    }

    fn found(image: &str, text: &str) -> Option<(String, String)> {
        let login = find(image, text).expect("is JSON")?;
        Some((login.user, login.password))
    }

    #[test]
    fn the_most_particular_login_of_the_registry_is_taken() {
        let text = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "registry.example.com:5000": {{"auth": "{}"}},
                "registry.example.com:5000/team": {{"auth": "{}"}},
                "helped.example.com": {{}}
            }}, "credHelpers": {{"helped.example.com": "x"}}, "currentContext": "default"}}"#,
            auth("hub:a:b"),
            auth("wide:c\0"),
            auth("team:d")
        );
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        for (image, expected) in [
            ("nginx", pair("hub", "a:b")),
            ("team/nginx:1", pair("hub", "a:b")),
            ("docker.io/library/nginx@sha256:0", pair("hub", "a:b")),
            ("registry.example.com:5000/other/it:2", pair("wide", "c")),
            ("registry.example.com:5000/team/it", pair("team", "d")),
            ("registry.example.com:5000/teams/it", pair("wide", "c")),
            ("registry.example.com:50001/it", None),
            ("helped.example.com/it", None),
            ("localhost/it", None),
        ] {
            assert_eq!(found(image, &text), expected, "{image}");
        }
    }

    #[test]
    fn a_port_is_no_tag() {
        for (image, expected) in [
            ("nginx", true),
            ("registry.example.com:5000/team/it", true),
            ("registry.example.com:5000/team/it:1", false),
            ("nginx:1", false),
            ("nginx@sha256:0", false),
            ("nginx:1@sha256:0", false),
        ] {
            assert_eq!(is_name_only(image), expected, "{image}");
        }
    }

    #[test]
    fn a_login_of_the_manifest_is_for_the_image_s_registry() {
        let (own, hub) = ("registry.example.com:5000", "https://index.docker.io/v1/");
        for (image, registry, address) in [
            ("nginx:1", "docker.io", hub),
            ("team/nginx", "docker.io", hub),
            ("registry.example.com:5000/team/it@sha256:0", own, own),
        ] {
            let login = Login::of(image, "robot", "secret".to_owned());
            assert_eq!(login.registry, registry, "{image}");
            assert_eq!(login.address(), address, "{image}");
            assert_eq!(format!("{login:?}"), format!("a login at {registry}"));
        }
    }

    #[test]
    fn what_is_no_such_file_is_passed_over_and_nothing_of_it_is_said() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let good = format!(
            r#"{{"auths": {{"quay.io": {{"auth": "{}"}}}}}}"#,
            auth("me:secret")
        );
        let files = [
            folder.path().join("missing"),
            file("broken", "{"),
            file("other", r#"{"auths": {"quay.io": {"auth": "%%%"}}}"#),
            file("good", &good),
        ];
        let login = login("quay.io/a/b:1", &files).expect("found");
        assert_eq!(format!("{login:?}"), "a login at quay.io");
        assert_eq!(login.password, "secret");
        let home = usual_logins(None, None, None, Some(Path::new("/home/me")));
        assert!(home.contains(&PathBuf::from("/home/me/.docker/config.json")));
    }
}
