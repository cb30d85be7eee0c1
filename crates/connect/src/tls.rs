//! TLS to a database server or a broker, by rustls with AWS-LC: with the authorities that are named (a URL's `sslrootcert`, a bridge's `ca`), else
//! those of the machine (`SSL_CERT_FILE` names others). The provider is named each time: another one is compiled in, too (see deny.toml).

use std::{
    future::Future,
    io::{self, Read},
    path::Path,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};

/// Most bytes of a file of authorities: those of a whole machine have a quarter of that.
const MAX_FILE: u64 = 1 << 20;

/// Makes connections that verify whom they speak to.
#[derive(Clone)]
pub(crate) struct Tls(Arc<rustls::ClientConfig>);

impl Tls {
    /// Trusts the authorities in the file `roots`, and no others; without one those of the machine. The file is read each time: it may be
    /// exchanged.
    ///
    /// # Errors
    /// When it cannot be read, or holds no certificate.
    pub(crate) async fn new(roots: Option<&Path>) -> Result<Self, String> {
        let Some(file) = roots else {
            return Ok(Self(system().await));
        };
        let unusable = |why: String| {
            format!(
                "the authorities of its `sslrootcert` {} cannot be used: {why}",
                file.display()
            )
        };
        let mut store = rustls::RootCertStore::empty();
        let (taken, _) = store.add_parsable_certificates(read(file).map_err(&unusable)?);
        if taken == 0 {
            return Err(unusable("it holds no certificate in PEM".to_owned()));
        }
        Ok(Self(in_roots(store)))
    }
}

/// The certificates in a file, of which no more is told than whether it can be read.
fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut text = Vec::new();
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    let read = opened.take(MAX_FILE + 1).read_to_end(&mut text);
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("it has more than {MAX_FILE} bytes"));
    }
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>();
    certificates.map_err(|_| "it is no PEM".to_owned())
}

/// With whoever has a certificate that the machine trusts. Those are read once, and not on a thread that serves; as long as there
/// are none, again.
pub(crate) async fn system() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Arc::clone(config);
    }
    let reading = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
    let found = reading
        .await
        .map_or_else(|_| Vec::new(), |found| found.certs);
    let mut roots = rustls::RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found);
    let config = in_roots(roots);
    match trusted {
        0 => config,
        _ => Arc::clone(CONFIG.get_or_init(|| config)),
    }
}

/// With whoever has a certificate that leads to one of those in `pem`.
///
/// # Errors
/// Why that is nobody.
pub(crate) fn in_pem(pem: &[u8]) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    match roots.is_empty() {
        true => Err("there is no certificate in PEM".to_owned()),
        false => Ok(in_roots(roots)),
    }
}

fn in_roots(roots: rustls::RootCertStore) -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A connection to one host on its way.
pub(crate) struct Connector {
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
}

/// A connection.
pub(crate) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type TlsConnect = Connector;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Connector, io::Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Connector {
            config: Arc::clone(&self.0),
            name,
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connector {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let connector = tokio_rustls::TlsConnector::from(self.config);
            connector.connect(self.name, stream).await.map(Stream)
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for Stream<S> {
    /// SCRAM without channel binding: the certificate is verified already.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
