//! Paths of files, paths of URLs, host names and URLs, as a manifest may name them.

use std::collections::BTreeSet;

use crate::{
    reader::{Reader, shown},
    tree::{Bytes, Node},
};

/// The longest path or URL, in bytes.
const MAX_PATH: usize = 1024;

impl Reader<'_> {
    /// A path below the manifest's folder: relative, without `..`.
    pub(crate) fn file(&mut self, node: &Node, what: &str) -> Option<String> {
        let path = self.string(node, what)?;
        let problem = if path.starts_with('/') {
            Some("is absolute")
        } else if path.split(['/', '\\']).any(|part| part == "..") {
            Some("leaves the folder of the manifest")
        } else if path.len() > MAX_PATH || path.contains(char::is_control) {
            Some("is no path")
        } else {
            None
        };
        if let Some(problem) = problem {
            self.error(node.at, format!("`{}` {problem}", shown(&path)))
                .help("paths are relative to the manifest and stay below its folder");
        }
        Some(path)
    }

    /// `/exact`, `/prefix/*`, `/with/{parameter}`; answers with its parameters.
    pub(crate) fn route_path(&mut self, at: Bytes, path: &str) -> BTreeSet<String> {
        let mut parameters = BTreeSet::new();
        if let Some(problem) = broken_path(path) {
            self.bad_path(at, path, problem);
            return parameters;
        }
        let segments: Vec<_> = path[1..].split('/').collect();
        for (index, segment) in segments.iter().enumerate() {
            match parameter(segment) {
                Some(name) if !is_parameter(name) => {
                    let problem = "has a parameter that is not a name of a-z, A-Z, 0-9 and `_`";
                    self.bad_path(at, path, problem);
                }
                Some(name) if !parameters.insert(name.to_owned()) => {
                    self.bad_path(at, path, &format!("has the parameter `{name}` twice"));
                }
                Some(_) => {}
                None if segment.contains(['{', '}']) => {
                    self.bad_path(at, path, "has a parameter that is not a whole segment");
                }
                None if *segment == "*" && index + 1 < segments.len() => {
                    self.bad_path(at, path, "has a `*` before its end");
                }
                None if *segment != "*" && segment.contains('*') => {
                    self.bad_path(at, path, "has a `*` that is not a whole segment");
                }
                None => {}
            }
        }
        parameters
    }

    /// A path that may use the parameters and the `*` of the route's path.
    pub(crate) fn rewrite(
        &mut self,
        at: Bytes,
        rewrite: &str,
        path: &str,
        known: &BTreeSet<String>,
    ) {
        if let Some(problem) = broken_path(rewrite) {
            self.bad_path(at, rewrite, problem);
            return;
        }
        for part in rewrite.split('{').skip(1) {
            match part.split_once('}') {
                None => self.bad_path(at, rewrite, "has a `{` without its `}`"),
                Some((name, _)) if !known.contains(name) => {
                    let message = format!("`{}` is no parameter of the path", shown(name));
                    self.unknown_word(at, message, name, known.iter().map(String::as_str));
                }
                Some(_) => {}
            }
        }
        let stars = rewrite.matches('*').count();
        if stars > 1 {
            self.bad_path(at, rewrite, "has more than one `*`");
        }
        if stars > 0 && !path.ends_with("/*") {
            self.error(at, "the rewritten path has a `*`, but the path has none")
                .help("end the path in `/*`, or leave the `*` out");
        }
    }

    fn bad_path(&mut self, at: Bytes, path: &str, problem: &str) {
        self.error(at, format!("`{}` {problem}", shown(path)))
            .help("a path is `/exact`, `/prefix/*` or `/with/{parameter}`");
    }

    /// A host name, `*.` before it allowed when `wildcard`.
    pub(crate) fn host(&mut self, at: Bytes, host: &str) {
        if !is_host(host) {
            self.error(at, format!("`{}` is not a host name", shown(host)))
                .help("for example `shop.example.com`, without scheme, port and path");
        }
    }

    /// As [`Reader::host`], or `*.` and a host.
    pub(crate) fn host_pattern(&mut self, at: Bytes, host: &str) {
        self.host(at, host.strip_prefix("*.").unwrap_or(host));
    }

    /// `http://…` or `https://…`.
    pub(crate) fn url(&mut self, node: &Node) -> Option<String> {
        let url = self.string(node, "an URL")?;
        let rest = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        let authority = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        let sound = authority.is_some_and(is_authority)
            && url.len() <= MAX_PATH
            && url.bytes().all(|byte| byte.is_ascii_graphic());
        if !sound {
            self.error(node.at, format!("`{}` is not an URL", shown(&url)))
                .help("for example `https://api.example.com/base`");
        }
        Some(url)
    }
}

fn broken_path(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("does not begin with `/`");
    }
    if path.len() > MAX_PATH {
        return Some("is longer than 1024 bytes");
    }
    if path.contains(['?', '#']) {
        return Some("has a query or a fragment");
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains(['\\', '"', '<', '>']) {
        return Some("has characters that no path has");
    }
    if path.contains("//") || path.split('/').any(|part| part == "." || part == "..") {
        return Some("has an empty segment, `.` or `..`");
    }
    None
}

fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
}

/// Labels of letters, digits, `-` and `_` with dots between, or an IPv4 address.
pub(crate) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

fn is_authority(authority: &str) -> bool {
    split_port(authority).is_some_and(|(host, _)| {
        is_host(host)
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::Ipv6Addr>()
                .is_ok()
    })
}

/// `host` or `host:port`, where the host may be `[v6]`.
pub(crate) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if text.ends_with(']') {
        return Some((text, None));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => Some((host, Some(port.parse().ok().filter(|port| *port > 0)?))),
        None => Some((text, None)),
    }
}
