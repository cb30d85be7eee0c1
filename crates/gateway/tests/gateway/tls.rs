//! The edge over TLS: certificates by name, replaced while connections go on, both HTTPs, WebSockets, and clients that
//! never shake hands.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use gateway::tls::{Certificates, Pair};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::code;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

use crate::{
    conversation::Conversation,
    house::{House, Wishes},
    upstream::{Upstream, app, everything},
};

/// A certificate that signs itself, for `names`.
fn pair(names: &[&str]) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names.clone())
        .expect("names")
        .self_signed(&key)
        .expect("a certificate");
    Pair {
        name: names.join("+"),
        chain: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
    }
}

/// A client that trusts `pairs` and speaks `protocols`.
fn connector(pairs: &[&Pair], protocols: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for pair in pairs {
        let certificate = CertificateDer::from_pem_slice(&pair.chain).expect("a certificate");
        roots.add(certificate).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the defaults")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let protocols = protocols.iter().map(|p| p.as_bytes().to_vec());
    config.alpn_protocols = protocols.collect();
    TlsConnector::from(Arc::new(config))
}

/// A connection to `house` that asks for `name`.
async fn connect(
    house: &House,
    name: &str,
    connector: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(house.tls_address()).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    connector.connect(name, stream).await
}

async fn house(manifest: &str, certificates: &Certificates) -> House {
    let wishes = Wishes {
        certificates: Some(certificates.clone()),
        connections: |limits| limits.head = Duration::from_millis(500),
        ..Wishes::default()
    };
    House::with(manifest, wishes).await
}

/// The certificate that the other side showed.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let chain = stream.get_ref().1.peer_certificates();
    chain.expect("it shows one")[0].to_vec()
}

fn of(pair: &Pair) -> Vec<u8> {
    let certificate = CertificateDer::from_pem_slice(&pair.chain).expect("a certificate");
    certificate.to_vec()
}

#[tokio::test]
async fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let pairs = [
        pair(&["first.test", "other.test", "a.b.shop.test"]),
        pair(&["shop.test", "*.shop.test"]),
        pair(&["bank.test"]),
    ];
    let [first, shop, bank] = &pairs;
    // The first is for whoever asks for nobody else; here it names them, so that the client trusts it.
    let certificates = Certificates::new(&pairs).expect("they fit");
    let connector = connector(&[first, shop, bank], &["http/1.1"]);
    let upstream = Upstream::echo().await;
    let house = house(&everything(&upstream), &certificates).await;
    for (name, expected) in [
        ("shop.test", shop),
        ("www.SHOP.test", shop),
        ("bank.test", bank),
        ("other.test", first),
        ("a.b.shop.test", first),
    ] {
        let stream = connect(&house, name, &connector).await.expect("is trusted");
        assert!(shown(&stream) == of(expected), "{name}");
    }
    let unknown = connect(&house, "unknown.test", &connector).await;
    let error = unknown.expect_err("the first is not for it").to_string();
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn both_https_are_spoken_and_the_workload_hears_of_it() {
    let pair = pair(&["shop.test"]);
    let certificates = Certificates::new(std::slice::from_ref(&pair)).expect("it fits");
    let upstream = Upstream::echo().await;
    let house = house(&everything(&upstream), &certificates).await;

    let one = connector(&[&pair], &["http/1.1"]);
    let stream = connect(&house, "shop.test", &one)
        .await
        .expect("is trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .expect("it speaks HTTP/1.1");
    let driven = tokio::spawn(connection);
    let request = Request::get("/one").header("host", "shop.test");
    let request = request.header("x-forwarded-proto", "gopher");
    let answer = sender.send_request(request.body(Empty::new()).expect("a request"));
    let body = answer.await.expect("an answer").into_body().collect().await;
    assert_eq!(body.expect("a body").to_bytes(), "GET /one ");
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
    drop(sender);
    driven.await.expect("no panic").expect("it ends well");

    let two = connector(&[&pair], &["h2", "http/1.1"]);
    let stream = connect(&house, "shop.test", &two)
        .await
        .expect("is trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("it speaks h2");
    let driven = tokio::spawn(connection);
    let request = Request::get("https://shop.test/two").body(Empty::new());
    let answer = sender.send_request(request.expect("a request"));
    let body = answer.await.expect("an answer").into_body().collect().await;
    assert_eq!(body.expect("a body").to_bytes(), "GET /two ");
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
    assert_eq!(
        upstream.last().header("x-forwarded-host"),
        Some("shop.test")
    );
    driven.abort();
}

#[tokio::test]
async fn certificates_are_replaced_while_connections_go_on() {
    let (old, new) = (pair(&["shop.test"]), pair(&["shop.test"]));
    let certificates = Certificates::new(std::slice::from_ref(&old)).expect("it fits");
    let upstream = Upstream::echo().await;
    let house = house(&everything(&upstream), &certificates).await;
    let connector = connector(&[&old, &new], &[]);
    let stream = connect(&house, "shop.test", &connector)
        .await
        .expect("is trusted");
    assert!(shown(&stream) == of(&old));
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .expect("it speaks HTTP/1.1");
    tokio::spawn(connection);

    // What does not fit changes nothing.
    let mixed = Pair {
        name: "mixed".into(),
        chain: new.chain.clone(),
        key: old.key.clone(),
    };
    let error = certificates.replace(&[mixed]).expect_err("a wrong key");
    assert_eq!(error.code, code::BAD_CERTIFICATE);
    assert!(error.message.contains("`mixed`") && error.message.contains("does not fit"));
    let stream = connect(&house, "shop.test", &connector)
        .await
        .expect("is trusted");
    assert!(shown(&stream) == of(&old));

    certificates
        .replace(std::slice::from_ref(&new))
        .expect("it fits");
    // A client that remembers its last session takes that up and is shown nothing.
    let connector = self::connector(&[&old, &new], &[]);
    let stream = connect(&house, "shop.test", &connector)
        .await
        .expect("is trusted");
    assert!(shown(&stream) == of(&new));
    let request = Request::get("/")
        .header("host", "shop.test")
        .body(Empty::new());
    let answer = sender.send_request(request.expect("a request")).await;
    assert_eq!(answer.expect("the old connection goes on").status(), 200);
}

#[tokio::test]
async fn a_websocket_goes_through_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the gateway connects");
        let mut socket = accept_async(stream).await.expect("a handshake");
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let nobody = Upstream::echo().await;
    let manifest = app(&nobody, "gateway: {routes: [{path: /*, to: web}]}\n")
        .replace(&nobody.address.to_string(), &address.to_string());
    let pair = pair(&["shop.test"]);
    let certificates = Certificates::new(std::slice::from_ref(&pair)).expect("it fits");
    let house = house(&manifest, &certificates).await;
    let connector = connector(&[&pair], &["http/1.1"]);
    let stream = connect(&house, "shop.test", &connector)
        .await
        .expect("is trusted");
    let (mut socket, answer) = client_async("wss://shop.test/socket", stream)
        .await
        .expect("it is upgraded");
    assert_eq!(answer.status(), 101);
    for text in ["hello", &"x".repeat(100_000)] {
        socket.send(Message::text(text)).await.expect("it is open");
        let echoed = socket.next().await.expect("it is open").expect("a message");
        assert_eq!(echoed.into_text().expect("a text"), text);
    }
}

#[tokio::test]
async fn who_does_not_shake_hands_is_let_go() {
    let pair = pair(&["shop.test"]);
    let certificates = Certificates::new(std::slice::from_ref(&pair)).expect("it fits");
    let upstream = Upstream::echo().await;
    let house = house(&everything(&upstream), &certificates).await;
    let mut silent = TcpStream::connect(house.tls_address())
        .await
        .expect("it listens");
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    // HTTP in clear text gets an alert at most, and no workload hears of it.
    let mut plain = Conversation::with(house.tls_address()).await;
    plain.send("GET", "/", &[], "").await;
    assert!(!plain.rest().await.contains("HTTP/1.1"));
    let strangers = connector(&[], &[]);
    assert!(connect(&house, "shop.test", &strangers).await.is_err());
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn what_is_no_certificate_is_told_by_its_name() {
    let good = pair(&["shop.test"]);
    let with = |chain: &[u8], key: &[u8]| {
        let pair = Pair {
            name: "certs/a.pem".into(),
            chain: chain.to_vec(),
            key: key.to_vec(),
        };
        Certificates::new(&[pair]).expect_err("is refused")
    };
    for (chain, key) in [
        (&b""[..], &good.key[..]),
        (b"nothing", &good.key),
        (&good.key, &good.key),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &good.key,
        ),
        (&good.chain, b""),
        (&good.chain, &good.chain),
    ] {
        let error = with(chain, key);
        assert_eq!(error.code, code::BAD_CERTIFICATE);
        assert!(error.message.contains("`certs/a.pem`"), "{error}");
    }
    let none = Certificates::new(&[]).expect_err("there is none");
    assert_eq!(none.code, code::BAD_CERTIFICATE);
}
