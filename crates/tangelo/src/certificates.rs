//! The files of the gateway's certificates: read at the start, and again whenever one has changed or the server gets
//! SIGHUP. Connections that are open keep what they were opened with; files that do not fit each other change nothing.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;
use gateway::tls::{Certificates, Pair};
use model::{Clock, code};
use serde::Deserialize;

use crate::{
    failure::Coded,
    follow::{self, Stamp},
};

/// Where TLS is spoken unless something else is said.
const ADDRESS: &str = "127.0.0.1:8443";

/// The flags about TLS.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsFlags {
    /// Address where the gateway speaks TLS [default: 127.0.0.1:8443 when there are certificates, else off]
    #[arg(long, env = "TANGELO_TLS", value_name = "ADDR")]
    tls: Option<SocketAddr>,
    /// A folder of certificates, NAME.pem or NAME.crt with NAME.key
    #[arg(long, env = "TANGELO_TLS_FOLDER", value_name = "DIR")]
    tls_folder: Option<PathBuf>,
}

/// The table `tls` of the configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table: [tls] with `address`, and `folder` or `certificates`"
)]
pub(crate) struct TlsTable {
    address: Option<SocketAddr>,
    folder: Option<PathBuf>,
    #[serde(default)]
    certificates: Vec<Files>,
}

/// A certificate's files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// Where certificates are read from, and where they are used.
#[derive(Debug, Clone)]
pub(crate) struct CertificateFiles {
    pub(crate) address: SocketAddr,
    folder: Option<PathBuf>,
    listed: Vec<Files>,
}

/// What changes when somebody writes one of the files, or puts another in its place.
type Stamps = Vec<(Files, [Stamp; 2])>;

impl CertificateFiles {
    /// What flags and file say; `None` when neither speaks of TLS.
    pub(crate) fn new(flags: &TlsFlags, file: Option<&TlsTable>) -> Result<Option<Self>> {
        let none = TlsTable::default();
        let said = flags.tls.is_some() || flags.tls_folder.is_some() || file.is_some();
        let file = file.unwrap_or(&none);
        let folder = flags.tls_folder.clone().or_else(|| file.folder.clone());
        if !said {
            return Ok(None);
        }
        if folder.is_none() && file.certificates.is_empty() {
            fail!(
                BAD_CONFIG,
                "setting `tls` has no certificates: give a folder of them (--tls-folder DIR, or `folder` below \
                 `[tls]` in the file), or list their files there (certificates = [{{cert = FILE, key = FILE}}])"
            );
        }
        Ok(Some(Self {
            address: flags.tls.or(file.address).unwrap_or(ADDRESS.parse()?),
            folder,
            listed: file.certificates.clone(),
        }))
    }

    /// For people.
    pub(crate) fn shown(&self) -> String {
        let listed = self
            .listed
            .iter()
            .map(|files| files.cert.display().to_string());
        let folder = self
            .folder
            .iter()
            .map(|folder| format!("{}/", folder.display()));
        let from: Vec<_> = listed.chain(folder).collect();
        format!("{} with {}", self.address, from.join(", "))
    }

    /// The certificates as they are now: the listed ones first, then those of the folder by name.
    pub(crate) fn read(&self) -> Result<Vec<Pair>> {
        let pair = |files: &Files| -> Result<Pair> {
            Ok(Pair {
                name: files.cert.display().to_string(),
                chain: read(&files.cert)?,
                key: read(&files.key)?,
            })
        };
        self.files()?.iter().map(pair).collect()
    }

    /// Keeps `certificates` as the files have them. Does not end.
    pub(crate) async fn follow(self, certificates: Certificates, clock: Clock) {
        let replace = || anyhow::Ok(certificates.replace(&self.read()?)?);
        let read_again = || match replace() {
            Ok(()) => tracing::info!(names = ?certificates.names(), "certificates were read again"),
            Err(error) => tracing::warn!("{error:#}: the certificates stay as they were"),
        };
        follow::changes(&clock, || self.stamps(), read_again).await;
    }

    fn files(&self) -> Result<Vec<Files>> {
        let mut all = self.listed.clone();
        if let Some(folder) = &self.folder {
            all.extend(found(folder)?);
        }
        if all.is_empty() {
            fail!(BAD_CONFIG, "{} has no NAME.pem or NAME.crt", self.shown());
        }
        Ok(all)
    }

    fn stamps(&self) -> Stamps {
        let files = self.files().unwrap_or_default().into_iter();
        files
            .map(|files| {
                let stamps = [follow::stamp(&files.cert), follow::stamp(&files.key)];
                (files, stamps)
            })
            .collect()
    }
}

/// The pairs of a folder, by name.
fn found(folder: &Path) -> Result<Vec<Files>> {
    let shown = || {
        format!(
            "cannot read the folder of certificates {}",
            folder.display()
        )
    };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(shown)? {
        let cert = entry.with_context(shown)?.path();
        if matches!(
            cert.extension().and_then(OsStr::to_str),
            Some("pem" | "crt")
        ) {
            let key = cert.with_extension("key");
            all.push(Files { cert, key });
        }
    }
    all.sort_unstable();
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).coded(code::BAD_CONFIG, || {
        format!("cannot read {}", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(flags: &TlsFlags, file: &str) -> Result<Option<String>> {
        let file: Option<TlsTable> = (!file.is_empty())
            .then(|| toml::from_str(file))
            .transpose()?;
        let files = CertificateFiles::new(flags, file.as_ref())?;
        Ok(files.map(|files| files.shown()))
    }

    #[test]
    fn tls_is_spoken_where_certificates_are_named() {
        let none = TlsFlags::default();
        assert_eq!(shown(&none, "").expect("is good"), None);
        let file = "certificates = [{cert = 'a.pem', key = 'a.key'}]\nfolder = 'more'";
        assert_eq!(
            shown(&none, file).expect("is good").as_deref(),
            Some("127.0.0.1:8443 with a.pem, more/")
        );
        let flags = TlsFlags {
            tls: Some(([0, 0, 0, 0], 443).into()),
            tls_folder: Some("certs".into()),
        };
        assert_eq!(
            shown(&flags, file).expect("is good").as_deref(),
            Some("0.0.0.0:443 with a.pem, certs/")
        );
        let without = TlsFlags {
            tls_folder: None,
            ..flags
        };
        let error = shown(&without, "").expect_err("no certificates");
        assert!(error.to_string().contains("--tls-folder"), "{error}");
        assert!(shown(&none, "certificate = []").is_err(), "no such key");
    }

    #[test]
    fn a_folder_has_pairs_by_name_and_other_files_do_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b.pem", "b.key", "a.crt", "a.key", "notes.txt"] {
            std::fs::write(folder.path().join(name), name).expect("writes");
        }
        let flags = TlsFlags {
            tls: None,
            tls_folder: Some(folder.path().into()),
        };
        let files = CertificateFiles::new(&flags, None).expect("is good");
        let pairs = files.expect("is there").read().expect("reads");
        let read: Vec<_> = pairs
            .iter()
            .map(|pair| (&*pair.chain, &*pair.key))
            .collect();
        assert_eq!(read, [(&b"a.crt"[..], &b"a.key"[..]), (b"b.pem", b"b.key")]);
    }
}
