//! TLS to someone else's server, trusted as the system trusts.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{InvalidDnsNameError, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A server that is asked for its certificate.
pub(super) struct Tls {
    name: ServerName<'static>,
}

impl Tls {
    /// A server whose certificate must lead to one that the system trusts.
    pub(super) fn system(host: &str) -> Result<Self, InvalidDnsNameError> {
        Ok(Self {
            name: ServerName::try_from(host.to_owned())?,
        })
    }

    pub(super) async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = system_trust().await?;
        let connector = TlsConnector::from(config);
        connector.connect(self.name.clone(), tcp).await
    }
}

/// Read once, at the first connection that needs it, and not on a thread that serves.
async fn system_trust() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let read = tokio::task::spawn_blocking(read_system_trust);
    let config = read.await.map_err(io::Error::other)??;
    Ok(Arc::clone(CONFIG.get_or_init(|| config)))
}

fn read_system_trust() -> io::Result<Arc<ClientConfig>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        return Err(io::Error::other(
            "this machine has no trusted certificates (package ca-certificates)",
        ));
    }
    client_config(roots)
}

fn client_config(roots: RootCertStore) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
