//! Where a database is, with what is needed to get in. Shown without credentials.

use std::{fmt, path::PathBuf, time::Duration};

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
    Postgres(Box<tokio_postgres::Config>),
}

impl Address {
    /// Reads a `postgres://` URL; `password` goes where an URL would have it.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it is none: nothing can be reached by it.
    pub fn postgres(url: &str, password: Option<&str>) -> Result<Self, Error> {
        let unreadable = |why: &dyn fmt::Display| Error::Unreachable {
            place: "a database".to_owned(),
            why: format!("its URL cannot be read: {why}"),
        };
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
            let mode = if is_local(&config) {
                SslMode::Disable
            } else {
                SslMode::Require
            };
            config.ssl_mode(mode);
        }
        Ok(Self::Postgres(Box::new(config)))
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
            Self::Postgres(config) => {
                let host = match config.get_hosts().first() {
                    Some(Host::Tcp(name)) => name.clone(),
                    #[cfg(unix)]
                    Some(Host::Unix(path)) => path.display().to_string(),
                    None => "localhost".to_owned(),
                };
                let port = config.get_ports().first().copied().unwrap_or(5432);
                let database = config.get_dbname().or_else(|| config.get_user());
                write!(
                    f,
                    "postgres://{host}:{port}/{}",
                    database.unwrap_or_default()
                )
            }
        }
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
        let Address::Postgres(config) = address else {
            panic!("is one")
        };
        assert_eq!(config.get_ssl_mode(), mode, "{url}");
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
