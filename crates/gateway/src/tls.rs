//! TLS at the edge with given certificates: which one a client gets is decided by the name that it asks for, and all can
//! be replaced while connections go on.
//!
//! Knows no files: `tangelo` reads and follows them. One crypto provider (AWS-LC), named here and not found by chance.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use model::{Error, code};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

/// A certificate with its chain, and its key, both as PEM.
pub struct Pair {
    /// What it is called where it comes from, for messages.
    pub name: String,
    /// The server's certificate first, then those that lead to a root.
    pub chain: Vec<u8>,
    /// PKCS #8, PKCS #1 or SEC1, not encrypted.
    pub key: Vec<u8>,
}

/// The certificates of a listener. Cheap to clone; all clones are replaced together.
#[derive(Clone)]
pub struct Certificates {
    table: Arc<Table>,
    config: Arc<ServerConfig>,
}

/// What is looked up for each handshake.
#[derive(Debug)]
struct Table(ArcSwap<Names>);

#[derive(Debug)]
struct Names {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name nobody, or somebody who is not here.
    first: Arc<CertifiedKey>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.names()).finish()
    }
}

impl Certificates {
    /// Serves with `pairs`; the first is for clients that name nobody who is here.
    ///
    /// # Errors
    /// `BAD_CERTIFICATE` for what is no certificate or key, when a key does not fit, and when there is none.
    pub fn new(pairs: &[Pair]) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let table = Arc::new(Table(ArcSwap::from_pointee(read(pairs, &provider)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::internal)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&table) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(Error::internal)?;
        Ok(Self {
            table,
            config: Arc::new(config),
        })
    }

    /// Puts `pairs` in the place of what there is, for connections from now on.
    ///
    /// # Errors
    /// As [`Certificates::new`]; then nothing changes.
    pub fn replace(&self, pairs: &[Pair]) -> Result<(), Error> {
        let names = read(pairs, self.config.crypto_provider())?;
        self.table.0.store(Arc::new(names));
        Ok(())
    }

    /// The names that there are certificates for.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.table.0.load();
        let mut names: Vec<_> = names.by_name.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let names = self.0.load();
        let found = hello.server_name().and_then(|name| names.find(name));
        Some(Arc::clone(found.unwrap_or(&names.first)))
    }
}

impl Names {
    /// The certificate for `name`, else the one for all names beside it (RFC 6125 §6.4.3: one label for a star).
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let exact = self.by_name.get(&name);
        exact.or_else(|| {
            let (_, rest) = name.split_once('.')?;
            self.by_name.get(&format!("*.{rest}"))
        })
    }
}

fn read(pairs: &[Pair], provider: &Arc<CryptoProvider>) -> Result<Names, Error> {
    let mut by_name = HashMap::new();
    let mut first = None;
    for pair in pairs {
        let key = Arc::new(certified(pair, provider)?);
        for name in names(&key, &pair.name)? {
            // Of two for one name, the first is used, as the first is for no name.
            by_name.entry(name).or_insert_with(|| Arc::clone(&key));
        }
        first.get_or_insert(key);
    }
    let first = first.ok_or_else(|| {
        let message = "there is no certificate to serve TLS with";
        Error::new(code::BAD_CERTIFICATE, message)
    })?;
    Ok(Names { by_name, first })
}

fn certified(pair: &Pair, provider: &Arc<CryptoProvider>) -> Result<CertifiedKey, Error> {
    let chain = CertificateDer::pem_slice_iter(&pair.chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| bad(pair, "its certificate is not PEM").context(error))?;
    if chain.is_empty() {
        return Err(bad(pair, "there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_slice(&pair.key);
    // The parser's message would be about the key; what it quotes is nobody's to read.
    let key = key.map_err(|_| bad(pair, "its key is not a PEM of a private key"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => bad(pair, "the key does not fit the certificate"),
        other => bad(pair, "it cannot be used").context(other),
    })
}

fn names(key: &CertifiedKey, called: &str) -> Result<Vec<String>, Error> {
    let end = key.end_entity_cert().map_err(Error::internal)?;
    let end = EndEntityCert::try_from(end).map_err(|error| {
        let message = format!("the certificate `{called}` cannot be used: it is malformed");
        Error::new(code::BAD_CERTIFICATE, message).context(error)
    })?;
    Ok(end.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

fn bad(pair: &Pair, why: &str) -> Error {
    let message = format!("the certificate `{}` cannot be used: {why}", pair.name);
    Error::new(code::BAD_CERTIFICATE, message)
}
