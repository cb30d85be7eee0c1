//! TLS to the database of an app: a certificate of an authority that the server trusts is taken, and no other; what waits
//! meanwhile is not lost.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use testkit::{Postgres, Server, eventually};

use crate::{ECHO, TANGELO};

const MANIFEST: &str = "
app: secure
workloads:
  reader:
    as: service
    run: {process: {command: [python3, echo.py]}}
    state: [folder]
    on: [{event: {type: [order.created]}}]
databases:
  orders:
    postgres: {url: 'URL'}
    outbox: {publishes: [order.created], poll: 50ms}
gateway:
  routes: [{path: /reader/*, to: reader, rewrite: /*}]
";

/// A private authority.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        Ok(Self { params, key })
    }

    fn pem(&self) -> Result<String> {
        Ok(self.params.self_signed(&self.key)?.pem())
    }

    /// A certificate for `name`, and its key.
    fn certify(&self, name: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let params = CertificateParams::new(vec![name.to_owned()])?;
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    }
}

fn status(server: &Server) -> Option<Value> {
    let answer = server.json(&["outbox", "status"]).ok()?;
    answer["outboxes"].get(0).cloned()
}

/// Waits until the relay has given up a connection for a reason that says `why`.
async fn refuses(server: &Server, why: &str) {
    eventually(why, || async {
        let status = status(server)?;
        let said = &status["why"];
        (said["code"] == "TG1001" && said["message"].to_string().contains(why)).then_some(())
    })
    .await;
}

async fn seen(server: &Server) -> Vec<String> {
    let Ok(answer) = server.gateway().get("/reader/seen").await else {
        return Vec::new();
    };
    let rows = answer.json();
    let ids = rows.as_array().into_iter().flatten();
    ids.filter_map(|row| row["id"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn only_a_certificate_of_a_trusted_authority_for_this_name_is_taken() -> Result<()> {
    let Some(mut database) = Postgres::start() else {
        return Ok(());
    };
    let (trusted, other) = (Authority::new("Ours")?, Authority::new("Theirs")?);
    let roots = tempfile::NamedTempFile::new()?;
    std::fs::write(roots.path(), trusted.pem()?)?;
    let names_roots = format!("SSL_CERT_FILE={}", roots.path().display());
    let server = Server::start_by(&["env".to_owned(), names_roots], TANGELO, &[])?;
    let outbox = server.json(&["outbox", "init", "postgres"])?;
    database.psql(outbox["sql"].as_str().unwrap_or_default())?;
    let url = database.url().replace("127.0.0.1", "localhost") + "?sslmode=require";
    server.deploy(&[
        ("tangelo.yaml", &MANIFEST.replace("URL", &url)),
        ("echo.py", ECHO),
    ])?;
    refuses(&server, "TLS").await;

    let (certificate, key) = other.certify("localhost")?;
    database.speak_tls(&certificate, &key)?;
    database.psql("INSERT INTO tangelo_outbox (id, type) VALUES ('1', 'order.created')")?;
    refuses(&server, "UnknownIssuer").await;

    let (certificate, key) = trusted.certify("another.example")?;
    database.speak_tls(&certificate, &key)?;
    refuses(&server, "another.example").await;
    assert!(seen(&server).await.is_empty(), "nothing went over these");

    let (certificate, key) = trusted.certify("localhost")?;
    database.speak_tls(&certificate, &key)?;
    eventually("it arrives over a connection that is trusted", || async {
        (seen(&server).await == ["1"]).then_some(())
    })
    .await;
    let secured = database.psql(
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tangelo'",
    )?;
    assert_eq!(secured, "t", "and that one only");
    named_by_the_url(&server, &mut database, &url).await
}

/// A private authority that only the URL names: it is trusted, and those of the machine are not beside it.
async fn named_by_the_url(server: &Server, database: &mut Postgres, url: &str) -> Result<()> {
    let private = Authority::new("Private")?;
    let (certificate, key) = private.certify("localhost")?;
    database.speak_tls(&certificate, &key)?;
    refuses(server, "UnknownIssuer").await;
    let roots = tempfile::NamedTempFile::new()?;
    let url = format!(
        "{}&sslrootcert={}",
        url.replace("require", "verify-full"),
        roots.path().display()
    );
    server.deploy(&[("tangelo.yaml", &MANIFEST.replace("URL", &url))])?;
    refuses(server, "holds no certificate").await;
    database.psql("INSERT INTO tangelo_outbox (id, type) VALUES ('2', 'order.created')")?;
    std::fs::write(roots.path(), private.pem()?)?;
    eventually(
        "it arrives over a connection that the URL's authority vouches for",
        || async { (seen(server).await == ["1", "2"]).then_some(()) },
    )
    .await;
    Ok(())
}
