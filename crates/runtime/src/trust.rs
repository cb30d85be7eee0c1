//! Whom connections to the outside trust over TLS, for guests and for `external` workloads alike.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// For HTTP/1.1 with whoever the system trusts. Read once, at the first connection that needs it, and not on a thread
/// that serves.
///
/// # Errors
/// When this machine trusts nobody.
pub(crate) async fn system() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let read = tokio::task::spawn_blocking(read_system);
    let config = read.await.map_err(io::Error::other)??;
    Ok(Arc::clone(CONFIG.get_or_init(|| config)))
}

fn read_system() -> io::Result<Arc<ClientConfig>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "reading the machine's certificates");
    }
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        return Err(io::Error::other(
            "this machine has no trusted certificates (package ca-certificates)",
        ));
    }
    in_roots(roots)
}

/// For HTTP/1.1 with whoever has a certificate that leads to one of those in `pem`, and nobody else.
///
/// # Errors
/// When there is none.
pub(crate) fn in_pem(pem: &[u8]) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| io::Error::other(e.to_string()))?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::other("it has no certificate in PEM"));
    }
    in_roots(roots)
}

/// For HTTP/1.1 with whoever has a certificate of `roots`.
pub(crate) fn in_roots(roots: RootCertStore) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
