//! TLS to someone else's server, trusted as the system trusts.

use std::{io, sync::Arc};

use rustls::{
    ClientConfig,
    pki_types::{InvalidDnsNameError, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::trust;

/// A server that is asked for its certificate.
pub(super) struct Tls {
    name: ServerName<'static>,
    /// Instead of whom the system trusts.
    only: Option<Arc<ClientConfig>>,
}

impl Tls {
    /// A server whose certificate must lead to one that the system trusts.
    pub(super) fn system(host: &str) -> Result<Self, InvalidDnsNameError> {
        Ok(Self {
            name: ServerName::try_from(host.to_owned())?,
            only: None,
        })
    }

    /// From now on nobody else is trusted.
    pub(super) fn trust_only(&mut self, trust: Arc<ClientConfig>) {
        self.only = Some(trust);
    }

    pub(super) async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let trust = match &self.only {
            Some(only) => Arc::clone(only),
            None => trust::system().await?,
        };
        self.connect_trusting(trust, tcp).await
    }

    async fn connect_trusting(
        &self,
        trust: Arc<ClientConfig>,
        tcp: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(trust);
        connector.connect(self.name.clone(), tcp).await
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Made for these tests, valid until 2120: a root, and what it signed for `localhost`.
    const ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBWzCCAQGgAwIBAgIBATAKBggqhkjOPQQDAjAcMRowGAYDVQQDDBFUYW5nZWxv
IHRlc3Qgcm9vdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowHDEa
MBgGA1UEAwwRVGFuZ2VsbyB0ZXN0IHJvb3QwWTATBgcqhkjOPQIBBggqhkjOPQMB
BwNCAARR4LptUdeyIKm0Uzyg0gSmfP9d0isEb/gN33d19V4tit5C0ozoTSMQ2L87
XTJgg4BdM5vFq2nTFFUpQ5JJrnWkozIwMDAPBgNVHRMBAf8EBTADAQH/MB0GA1Ud
DgQWBBS0xvGC/u1So5dFF9RW0hsEMFVLeDAKBggqhkjOPQQDAgNIADBFAiEAuy4/
HWUI2/heJekTcQZ8hp78PJOgYC2CjGJxSMBNCU0CIFTLGM9s5UC8odJHiNKsai9N
TRqXwIY3hdMfdgupAtBx
-----END CERTIFICATE-----
";
    const LEAF: &str = "\
-----BEGIN CERTIFICATE-----
MIIBhjCCAS2gAwIBAgIBAjAKBggqhkjOPQQDAjAcMRowGAYDVQQDDBFUYW5nZWxv
IHRlc3Qgcm9vdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFDES
MBAGA1UEAwwJbG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGd21
velrxCmox4Lg4crqN5MIkC2EyM58blOIyYy7bFcL8FjlHUBj/JyrxnHvedEnXuMg
QU/i3NpDZdMvSNqFhaNmMGQwDAYDVR0TAQH/BAIwADAUBgNVHREEDTALgglsb2Nh
bGhvc3QwHQYDVR0OBBYEFLewu9WuQJvEVoT/Jqx3mzi0Nz6yMB8GA1UdIwQYMBaA
FLTG8YL+7VKjl0UX1FbSGwQwVUt4MAoGCCqGSM49BAMCA0cAMEQCICXjxptX2yBe
cQp3nHMNKjO3xjd3g3tvo7zQtMowk7R2AiBVnbjlURum/o0oAw65OxM8g/hMqufp
eFxT3Pok1aL1MA==
-----END CERTIFICATE-----
";
    const LEAF_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3grcyWL3HiR6vxj9
DnbfDgwAnMxnLtXhNeVhFe1WCEyhRANCAAQZ3bW96WvEKajHguDhyuo3kwiQLYTI
znxuU4jJjLtsVwvwWOUdQGP8nKvGce950Sde4yBBT+Lc2kNl0y9I2oWF
-----END PRIVATE KEY-----
";

    fn acceptor() -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let leaf = CertificateDer::from_pem_slice(LEAF.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(LEAF_KEY.as_bytes()).expect("a key");
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the defaults")
            .with_no_client_auth()
            .with_single_cert(vec![leaf], key)
            .expect("the key is the certificate's");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// What a server for `localhost` says to a client that looks for `name` and trusts `roots`.
    async fn greeting(name: &str, roots: RootCertStore) -> io::Result<(String, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await?;
            let mut tls = acceptor().accept(tcp).await?;
            tls.write_all(b"hello").await?;
            tls.shutdown().await
        });
        let tls = Tls::system(name).expect("a name");
        let trust = trust::in_roots(roots)?;
        let tcp = TcpStream::connect(address).await?;
        let mut stream = tls.connect_trusting(trust, tcp).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        server.await.expect("no panic")?;
        let protocol = stream.get_ref().1.alpn_protocol().unwrap_or_default();
        Ok((text, protocol.to_vec()))
    }

    fn roots() -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(ROOT.as_bytes()).expect("a certificate");
        roots.add(root).expect("a root");
        roots
    }

    #[tokio::test]
    async fn a_trusted_server_is_spoken_to_in_http_1() {
        let (text, protocol) = greeting("localhost", roots()).await.expect("trusted");
        assert_eq!((text.as_str(), &*protocol), ("hello", &b"http/1.1"[..]));
    }

    #[tokio::test]
    async fn a_wrong_name_and_an_unknown_root_are_refused() {
        let wrong = greeting("other.example", roots()).await;
        assert!(wrong.is_err_and(|e| e.to_string().contains("certificate")));
        let unknown = greeting("localhost", RootCertStore::empty()).await;
        assert!(unknown.is_err_and(|e| e.to_string().contains("UnknownIssuer")));
    }
}
