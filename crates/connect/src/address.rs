//! Where a database is, with what is needed to get in. Shown without credentials.

use std::{fmt, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode};

use crate::Error;

/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a database is.
#[derive(Clone)]
pub enum Address {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<Server>),
}

/// A Postgres server, and how to get into a database of it.
#[derive(Clone)]
pub struct Server {
    pub(crate) config: tokio_postgres::Config,
    /// A file with the authorities that its certificate may be of; `None`: those of the machine.
    pub(crate) roots: Option<PathBuf>,
}

impl Address {
    /// Reads a `postgres://` URL; `password` goes where an URL would have it. Beside what the client library knows it may have libpq's
    /// `sslrootcert` (an absolute path on this machine, or `system`), and `sslmode=verify-full`, which is what `require` means here.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it is none: nothing can be reached by it.
    pub fn postgres(url: &str, password: Option<&str>) -> Result<Self, Error> {
        let unreadable = |why: &dyn fmt::Display| Error::Unreachable {
            place: "a database".to_owned(),
            why: format!("its URL cannot be read: {why}"),
        };
        let (url, roots) = without_roots(url).map_err(|why| unreadable(&why))?;
        let mut config: tokio_postgres::Config = url.parse().map_err(|e| unreadable(&e))?;
        if let Some(password) = password {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(PATIENCE);
        }
        if config.get_application_name().is_none() {
            config.application_name("tangelo");
        }
        if config.get_ssl_mode() == SslMode::Prefer {
            // Who says what to trust means to be sure.
            let mode = if is_local(&config) && roots.is_none() {
                SslMode::Disable
            } else {
                SslMode::Require
            };
            config.ssl_mode(mode);
        }
        Ok(Self::Postgres(Box::new(Server { config, roots })))
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub const fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// A URL without what the client library does not know: the file of authorities, and what this one means by verifying.
fn without_roots(url: &str) -> Result<(String, Option<PathBuf>), &'static str> {
    let Some((place, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), None));
    };
    let (mut kept, mut roots) = (Vec::new(), None);
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", "verify-full")) => kept.push("sslmode=require"),
            Some(("sslrootcert", "system")) => {}
            Some(("sslrootcert", file)) => {
                let file = percent_decode_str(file).decode_utf8();
                let file = PathBuf::from(file.map_err(|_| "`sslrootcert` is not UTF-8")?.as_ref());
                if !file.is_absolute() {
                    return Err(
                        "`sslrootcert` is an absolute path on the server's machine, or `system`",
                    );
                }
                roots = Some(file);
            }
            _ => kept.push(pair),
        }
    }
    let query = kept.join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    Ok((format!("{place}{mark}{query}"), roots))
}

/// Unless a URL says how: in the clear to this machine, verified TLS to every other. "TLS if it can be had" protects
/// from nobody who is in the way.
fn is_local(config: &tokio_postgres::Config) -> bool {
    let hosts = config.get_hosts();
    hosts.iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "{}", file.display()),
            Self::Postgres(server) => fmt::Display::fmt(server, f),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let database = config.get_dbname().or_else(|| config.get_user());
        let database = database.unwrap_or_default();
        write!(f, "postgres://{host}:{port}/{database}")
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, shown: &str, mode: SslMode) {
        let address = Address::postgres(url, Some("hunter2")).expect(url);
        assert_eq!(address.to_string(), shown);
        assert!(!format!("{address:?}").contains("hunter2"));
        let Address::Postgres(server) = address else {
            panic!("is one")
        };
        assert_eq!(server.config.get_ssl_mode(), mode, "{url}");
    }

    #[test]
    fn authorities_are_named_as_libpq_spells_it() {
        let roots = |query: &str| {
            let url = format!("postgres://app@localhost/shop?{query}");
            let address = Address::postgres(&url, None).map_err(|error| error.to_string())?;
            let Address::Postgres(server) = address else {
                panic!("is one")
            };
            let roots = server.roots.map(|file| file.display().to_string());
            Ok::<_, String>((roots, server.config.get_ssl_mode()))
        };
        let file = |path: &str| Some(path.to_owned());
        assert_eq!(
            roots("sslrootcert=/etc/a%20b.pem"),
            Ok((file("/etc/a b.pem"), SslMode::Require))
        );
        assert_eq!(
            roots("sslmode=verify-full&sslrootcert=/a.pem&connect_timeout=3"),
            Ok((file("/a.pem"), SslMode::Require))
        );
        assert_eq!(
            roots("sslrootcert=system&sslmode=require"),
            Ok((None, SslMode::Require))
        );
        assert_eq!(
            roots("sslmode=disable&sslrootcert=/a.pem"),
            Ok((file("/a.pem"), SslMode::Disable))
        );
        assert!(roots("sslrootcert=a.pem").is_err_and(|why| why.contains("absolute path")));
        assert!(roots("sslrootcert=").is_err_and(|why| why.contains("absolute path")));
        assert!(roots("sslrotcert=/a.pem").is_err_and(|why| why.contains("cannot be read")));
    }

    #[test]
    fn addresses_hide_credentials_and_are_encrypted_away_from_here() {
        use SslMode::{Disable, Require};
        check(
            "postgres://app@localhost/shop",
            "postgres://localhost:5432/shop",
            Disable,
        );
        check(
            "postgres://app@127.0.0.1:7/shop",
            "postgres://127.0.0.1:7/shop",
            Disable,
        );
        check(
            "postgres://app@db.example/shop",
            "postgres://db.example:5432/shop",
            Require,
        );
        check(
            "postgres://app@db.example/shop?sslmode=disable",
            "postgres://db.example:5432/shop",
            Disable,
        );
        check(
            "postgres://app@localhost/shop?sslmode=require",
            "postgres://localhost:5432/shop",
            Require,
        );
        let error = Address::postgres("mysql://x", None).expect_err("is none");
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
