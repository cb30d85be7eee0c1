//! Connections of guests to the outside: resolve, dial an address that was vetted, speak TLS and HTTP/1.1.
//!
//! Which addresses are good is decided by the caller; nothing here resolves a name a second time.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{Request, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use super::outbound::{Destination, Patience, Sent};
use crate::trust;

/// Connections that all guests of a server may have at the same time: each is a file descriptor of the server.
const CONNECTIONS: usize = 1024;

/// Reaches the outside.
pub(super) struct Dialer {
    free: Arc<Semaphore>,
}

impl Default for Dialer {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The addresses of a host: itself, if it is one.
pub(super) async fn resolve(
    to: &Destination,
    patience: Duration,
) -> Result<Vec<SocketAddr>, WasiError> {
    if let Ok(ip) = to.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, to.port)]);
    }
    let found = timeout(
        patience,
        tokio::net::lookup_host((to.host.as_str(), to.port)),
    )
    .await
    .map_err(|_| WasiError::DnsTimeout)?;
    found
        .map(Iterator::collect)
        .map_err(|e| WasiError::DnsError {
            rcode: Some(e.to_string()),
            info_code: None,
        })
}

impl Dialer {
    /// Sends a request to the first of the vetted `addresses` that takes the connection.
    pub(super) async fn send(
        &self,
        mut request: Request<WasiBody>,
        to: &Destination,
        addresses: &[SocketAddr],
        patience: Patience,
    ) -> Sent {
        let slot = timeout(patience.connect, Arc::clone(&self.free).acquire_owned()).await;
        let Ok(Ok(slot)) = slot else {
            return Err(WasiError::ConnectionLimitReached);
        };
        let stream = timeout(patience.connect, self.connect(to, addresses))
            .await
            .map_err(|_| WasiError::ConnectionTimeout)??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // An origin server wants the path alone (RFC 9112 §3.2.1); the host is in its header already.
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        *request.uri_mut() = path
            .parse::<Uri>()
            .map_err(|_| WasiError::HttpRequestUriInvalid)?;
        // Aborted when the guest is gone or drops the response.
        let driver = wasmtime_wasi::runtime::spawn(async move {
            let ended = connection.await;
            drop(slot);
            ended
        });
        let response = timeout(patience.first_byte, sender.send_request(request))
            .await
            .map_err(|_| WasiError::ConnectionReadTimeout)??;
        let response = response.map(|body| body.map_err(WasiError::from).boxed_unsync());
        let driven = async move { driver.await.map_err(WasiError::from) };
        Ok((response, Box::new(driven)))
    }

    async fn connect(
        &self,
        to: &Destination,
        addresses: &[SocketAddr],
    ) -> Result<Box<dyn Stream>, WasiError> {
        let stream = dial(addresses).await.map_err(WasiError::Connect)?;
        if !to.tls {
            return Ok(Box::new(stream));
        }
        let name =
            ServerName::try_from(to.host.clone()).map_err(|_| WasiError::HttpRequestUriInvalid)?;
        let trust = trust::system().await;
        let trust = trust.map_err(|e| WasiError::InternalError(Some(e.to_string())))?;
        let connector = TlsConnector::from(trust);
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(WasiError::Tls)?;
        Ok(Box::new(stream))
    }
}

async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
