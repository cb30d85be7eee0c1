//! Who asks, for the record of what operators did: the user at the other end of the socket, or whoever has the token.

use std::convert::Infallible;

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::request::Parts,
};

/// Who asks.
pub(crate) struct Operator(pub(crate) String);

/// The user at the other end of the Unix socket, where the system says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(Option<u32>);

#[cfg(unix)]
impl
    axum::extract::connect_info::Connected<
        axum::serve::IncomingStream<'_, tokio::net::UnixListener>,
    > for Peer
{
    fn connect_info(stream: axum::serve::IncomingStream<'_, tokio::net::UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|cred| cred.uid()))
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        Ok(Self(match peer.map(|ConnectInfo(peer)| peer.0) {
            Some(Some(uid)) => format!("user {uid}"),
            Some(None) => "a user of the control socket".to_owned(),
            None => "the operator's token".to_owned(),
        }))
    }
}
