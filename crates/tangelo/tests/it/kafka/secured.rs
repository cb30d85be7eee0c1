//! TLS and SASL: who has no certificate of the declared authority is not spoken to, and a password that is not set or wrong is
//! said, never shown. Kafka's own client comes by the same doors.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use testkit::Server;

use super::{arrived, cluster::Cluster, manifest, publish, reaches, waits};
use crate::TANGELO;

const PASSWORD: &str = "sesame-4711";

/// An authority, and a certificate of it for 127.0.0.1 with its key, in PEM.
fn authority(name: &str) -> Result<(String, String, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    let issuer = Issuer::from_params(&params, &key);
    let own = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let certificate = certificate.signed_by(&own, &issuer)?.pem();
    Ok((pem, certificate, own.serialize_pem()))
}

#[tokio::test]
async fn a_cluster_with_tls_and_logins_is_bridged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ca, certificate, key) = authority("Ours")?;
    let (other, ..) = authority("Theirs")?;
    let files = [folder.path().join("c.pem"), folder.path().join("k.pem")];
    // Clients trust the authority; the door shows its certificate with the authority's behind it.
    std::fs::write(&files[0], format!("{certificate}{ca}"))?;
    std::fs::write(&files[1], key)?;
    let paths = [files[0].as_path(), files[1].as_path()];
    let mut cluster = Cluster::secure(&["payments", "orders"], paths, ["tangelo", PASSWORD])?;
    let secrets = folder.path().join("secrets.toml");
    let set =
        |password: &str| std::fs::write(&secrets, format!("KAFKA_PASSWORD = \"{password}\"\n"));
    std::fs::write(&secrets, "OTHER = \"1234567\"\n")?;
    let server = Server::start_with(TANGELO, &["--secrets", &secrets.to_string_lossy()])?;
    let brokers = cluster.brokers.clone();
    let text = |mechanism: &str| {
        let ways = format!(
            "      tls: {{ca: kafka.pem}}
      login: {{mechanism: {mechanism}, user: tangelo, password: KAFKA_PASSWORD}}
      in: [{{topic: payments, type: payment.received, from: earliest}}]
      out: [{{event: {{type: [order.created]}}, topic: orders}}]"
        );
        manifest(&brokers, &ways)
    };
    let deploy = |mechanism: &str, ca: &str| {
        server.deploy(&[("tangelo.yaml", &text(mechanism)), ("kafka.pem", ca)])
    };
    let notes = deploy("scram-sha-512", &other)?;
    assert!(notes.to_string().contains("KAFKA_PASSWORD"), "{notes}");
    let told = reaches(&server, "payments", "no password is set", waits("TG1023")).await;
    assert!(
        told["why"]["message"]
            .to_string()
            .contains("not set on this server"),
        "{told}"
    );
    set("wrong-0815")?;
    server.hang_up()?;
    let told = reaches(&server, "payments", "another authority", waits("TG1020")).await;
    assert!(
        told["why"]["message"].to_string().contains("UnknownIssuer"),
        "{told}"
    );
    deploy("scram-sha-512", &ca)?;
    let told = reaches(
        &server,
        "payments",
        "the password is wrong",
        waits("TG1023"),
    )
    .await;
    assert!(!told.to_string().contains("wrong-0815"), "{told}");
    set(PASSWORD)?;
    server.hang_up()?;
    let headers = json!({});
    for (round, mechanism) in ["scram-sha-512", "scram-sha-256", "plain"]
        .iter()
        .enumerate()
    {
        deploy(mechanism, &ca)?;
        let value = json!({"n": round}).to_string();
        cluster.produce(
            "payments",
            &[json!({"key": "k", "value": value, "headers": headers})],
        )?;
        arrived(&server, "payment.received", round + 1).await;
        publish(&server, "order.created", &round.to_string(), &["-d", "{}"])?;
        let records = cluster.consume("orders", round + 1)?;
        assert_eq!(records.len(), round + 1, "{mechanism}");
    }
    let state = server.json(&["bridges"])?;
    assert!(!state.to_string().contains(PASSWORD), "{state}");
    Ok(())
}
