//! Where requests of an upstream go: a port of this machine, or an URL of someone else's.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{Either, select};
use http::{HeaderValue, Uri, uri::Scheme};
use model::{Clock, Egress, Error, code};
use rustls::ClientConfig;
use tokio::net::TcpStream;

use super::{stream::Stream, tls::Tls};
use crate::egress;

/// How long a port of this machine may take to accept.
const CONNECT_HERE: Duration = Duration::from_secs(1);

/// How long someone else's may, name resolution and TLS included.
const CONNECT_AWAY: Duration = Duration::from_secs(5);

/// Where requests go.
pub(crate) enum Origin {
    /// A port of this machine; the `Host` header stays as the client sent it.
    Here(SocketAddr),
    /// Someone else's; the `Host` header is that of the URL.
    Away(Away),
}

/// The parts of an URL.
pub(crate) struct Away {
    host: String,
    port: u16,
    tls: Option<Tls>,
    /// What the `Host` header says.
    pub(super) authority: HeaderValue,
    /// What goes before every path, without a `/` at its end.
    pub(super) base: String,
    /// Beside public addresses, those that may be dialled; `None`: any.
    rules: Option<Vec<Egress>>,
}

/// Every address that a name resolved to is one that may not be dialled.
#[derive(Debug, thiserror::Error)]
#[error("it resolves to {0}, which is not on the public Internet")]
struct Inside(IpAddr);

/// An URL that is not usable as an upstream.
#[derive(Debug, thiserror::Error)]
#[error("`{url}` {problem}")]
pub(crate) struct BadUrl {
    url: String,
    problem: &'static str,
}

impl Origin {
    /// Reads `http://host[:port][/base]` or the same with `https`.
    pub(crate) fn parse(url: &str) -> Result<Self, BadUrl> {
        let bad = |problem| BadUrl {
            url: url.to_owned(),
            problem,
        };
        let uri: Uri = url.parse().map_err(|_| bad("is not an URL"))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad("does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(bad("has a user or a query, which have no meaning here"));
        }
        // The URL's own spelling, without the brackets of IPv6.
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = secure.then(|| Tls::system(&host)).transpose();
        Ok(Self::Away(Away {
            tls: tls.map_err(|_| bad("names a host that no certificate can be for"))?,
            port: authority
                .port_u16()
                .unwrap_or(if secure { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_| bad("names a host that no header can hold"))?,
            base: uri.path().trim_end_matches('/').to_owned(),
            host,
            rules: None,
        }))
    }

    /// The same for an URL of which the platform's operator is not the only author: only public addresses and those of
    /// `rules` are dialled. A name is resolved once, and what was checked is what is dialled. `trust` stands in the
    /// place of whom the system trusts.
    pub(crate) fn vetted(
        url: &str,
        rules: Vec<Egress>,
        trust: Option<Arc<ClientConfig>>,
    ) -> Result<Self, BadUrl> {
        let mut origin = Self::parse(url)?;
        if let Self::Away(away) = &mut origin {
            away.rules = Some(rules);
            if let (Some(tls), Some(trust)) = (&mut away.tls, trust) {
                tls.trust_only(trust);
            }
        }
        Ok(origin)
    }

    /// A new connection.
    pub(super) async fn connect(&self, clock: &Clock) -> Result<Stream, Error> {
        let patience = match self {
            Self::Here(_) => CONNECT_HERE,
            Self::Away(_) => CONNECT_AWAY,
        };
        let (work, timer) = (
            std::pin::pin!(self.connect_patiently()),
            std::pin::pin!(clock.sleep(patience)),
        );
        let problem = match select(work, timer).await {
            Either::Left((Ok(stream), _)) => return Ok(stream),
            Either::Left((Err(error), _)) => match inside(&error) {
                Some(address) => return Err(self.refused(address)),
                None => chain(&error),
            },
            Either::Right(_) => format!("no connection within {} s", patience.as_secs()),
        };
        let message = format!("no connection to {self}");
        Err(Error::new(code::UPSTREAM_UNREACHABLE, message).context(problem))
    }

    fn refused(&self, Inside(address): &Inside) -> Error {
        let port = match self {
            Self::Here(address) => address.port(),
            Self::Away(away) => away.port,
        };
        let advice = egress::advice(&address.to_string(), port);
        let message = format!(
            "{self}:{port} may not be reached: it resolves to {address}, which is not on the public Internet; {advice}"
        );
        Error::new(code::EGRESS_NOT_DECLARED, message)
    }

    async fn connect_patiently(&self) -> io::Result<Stream> {
        match self {
            Self::Here(address) => {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                Ok(Stream::plain(tcp))
            }
            Self::Away(away) => {
                let tcp = away.dial().await?;
                tcp.set_nodelay(true)?;
                match &away.tls {
                    None => Ok(Stream::plain(tcp)),
                    Some(tls) => tls.connect(tcp).await.map(Stream::tls),
                }
            }
        }
    }
}

impl Away {
    async fn dial(&self) -> io::Result<TcpStream> {
        let Some(rules) = &self.rules else {
            return TcpStream::connect((self.host.as_str(), self.port)).await;
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host((self.host.as_str(), self.port)).await? {
            if !egress::may_dial(rules, address.ip(), self.port) {
                last = io::Error::other(Inside(address.ip()));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The address that was refused, if that is what `error` says.
fn inside(error: &io::Error) -> Option<&Inside> {
    error.get_ref()?.downcast_ref()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(_) => f.write_str("the instance"),
            Self::Away(away) => f.write_str(&away.host),
        }
    }
}

/// An error with its sources, for the operator.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, u16, bool, String, String) {
        match Origin::parse(url) {
            Ok(Origin::Away(away)) => (
                away.host,
                away.port,
                away.tls.is_some(),
                away.authority.to_str().expect("ASCII").to_owned(),
                away.base,
            ),
            Ok(Origin::Here(_)) => panic!("an URL is not here"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn urls_come_apart() {
        let of = |h: &str, p, t, a: &str, b: &str| (h.into(), p, t, a.into(), b.into());
        for (url, expected) in [
            (
                "http://a.example",
                of("a.example", 80, false, "a.example", ""),
            ),
            (
                "https://a.example/",
                of("a.example", 443, true, "a.example", ""),
            ),
            ("http://a:81/v1/", of("a", 81, false, "a:81", "/v1")),
            ("http://[::1]:9/x/y", of("::1", 9, false, "[::1]:9", "/x/y")),
        ] {
            assert_eq!(parts(url), expected, "{url}");
        }
    }

    #[test]
    fn what_is_no_upstream_says_why() {
        for (url, part) in [
            ("ftp://a", "http://"),
            ("/relative", "http://"),
            ("http://a b", "not an URL"),
            ("http://u:p@a", "user"),
            ("http://a/?q=1", "query"),
        ] {
            let error = Origin::parse(url).err().expect("refused").to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
