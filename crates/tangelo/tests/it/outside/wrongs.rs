//! Webhooks that are not taken: breakers, dead letters, endpoints that are gone or inside, and whom TLS trusts.

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use testkit::{Server, eventually};

use super::receiver::{Receiver, SECRET, manifest, publish, server, stands};

/// One event at a time, tried soon again.
const EAGER: &str =
    "    concurrency: 1\n    retry: {attempts: 3, backoff: 1ms, max_backoff: 5ms}\n";

async fn waits_on(server: &Server, what: &str) -> Value {
    eventually(&format!("it waits on {what}"), || async {
        let stands = stands(server).ok()?;
        stands["waiting_on"]
            .to_string()
            .contains(what)
            .then_some(stands)
    })
    .await
}

async fn dead_letter(server: &Server) -> Value {
    eventually("it is a dead letter", || async {
        let all = server.json(&["dead-letters"]).ok()?;
        let id = all["dead_letters"][0]["id"].as_u64()?;
        server.json(&["dead-letters", "show", &id.to_string()]).ok()
    })
    .await
}

#[tokio::test]
async fn an_open_breaker_costs_no_attempt_and_says_so() -> Result<()> {
    let receiver = Receiver::start(&[SECRET], None)?;
    let (server, _folder) = server(&[("PARTNER", SECRET)])?;
    let breaker = "        breaker: {failures: 2, wait: 2s}\n";
    receiver.mode("500").await?;
    server.deploy(&[("tangelo.yaml", &manifest(receiver.port, EAGER, breaker))])?;
    for number in 0..5 {
        publish(&server, &number.to_string(), "o-1")?;
    }
    let stands = waits_on(&server, "TG0305").await;
    let why = stands["waiting_on"].as_str().context("a reason")?;
    assert!(
        why.contains("2 failures") && why.contains("it answered 500"),
        "{why}"
    );
    assert!(stands["waiting_since"].is_u64(), "{stands}");
    assert_eq!(receiver.seen().await?.len(), 2, "nothing goes through");
    receiver.mode("200").await?;
    let seen = receiver.saw(7).await;
    let mut ids: Vec<_> = seen.iter().filter_map(|one| one.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((seen.len(), ids.len()), (7, 5));
    let dead = server.json(&["dead-letters"])?;
    assert_eq!(
        dead["dead_letters"].as_array().map(Vec::len),
        Some(0),
        "{dead}"
    );
    Ok(())
}

#[tokio::test]
async fn an_open_breaker_is_of_its_endpoint_alone() -> Result<()> {
    let (bad, good) = (
        Receiver::start(&[SECRET], None)?,
        Receiver::start(&[SECRET], None)?,
    );
    let (server, _folder) = server(&[("PARTNER", SECRET)])?;
    bad.mode("500").await?;
    let breaker = "        breaker: {failures: 1, wait: 1h, max_wait: 1h}\n";
    let first = manifest(bad.port, EAGER, breaker);
    let second = manifest(good.port, EAGER, breaker);
    let second = second.replace("app: bus\nsubscriptions:\n  partner:", "  other:");
    server.deploy(&[("tangelo.yaml", &(first + &second))])?;
    for number in 0..5 {
        publish(&server, &number.to_string(), "o-1")?;
    }
    waits_on(&server, "TG0305").await;
    let seen = good.saw(5).await;
    assert_eq!((seen.len(), bad.seen().await?.len()), (5, 1));
    let rows = server.json(&["subscriptions"])?;
    let rows = rows["subscriptions"].as_array().context("rows")?;
    let ours = |row: &&Value| row["subscription"] == "bus/other/events";
    let other = rows.iter().find(ours).context("the other one")?;
    assert_eq!(other["waiting_on"], Value::Null, "{other}");
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_is_gone_pauses_its_subscription() -> Result<()> {
    let receiver = Receiver::start(&[SECRET], None)?;
    let (mut server, _folder) = server(&[("PARTNER", SECRET)])?;
    let once = "    retry: {attempts: 1}\n";
    receiver.mode("410").await?;
    server.deploy(&[("tangelo.yaml", &manifest(receiver.port, once, ""))])?;
    publish(&server, "1", "o-1")?;
    let stands = waits_on(&server, "paused").await;
    let paused = &stands["paused"];
    assert_eq!(paused["by"], "tangelo");
    assert!(paused["reason"].to_string().contains("TG0431"), "{paused}");
    server.kill()?;
    server.restart()?;
    waits_on(&server, "paused").await;
    receiver.mode("200").await?;
    server.json(&["subscriptions", "resume", "bus/partner/events"])?;
    let seen = receiver.saw(2).await;
    assert_eq!(seen[0].id, seen[1].id, "it was no attempt, and is not lost");
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_asks_for_later_is_left_alone_until_then() -> Result<()> {
    let receiver = Receiver::start(&[SECRET], None)?;
    let (server, _folder) = server(&[("PARTNER", SECRET)])?;
    let once = "    retry: {attempts: 1}\n";
    server.deploy(&[("tangelo.yaml", &manifest(receiver.port, once, ""))])?;
    for (status, expected) in [("503 retry-after=1", 2), ("429 retry-after=1", 4)] {
        receiver.mode(status).await?;
        publish(&server, status, "o-1")?;
        waits_on(&server, "TG0432").await;
        receiver.mode("200").await?;
        let seen = receiver.saw(expected).await;
        assert_eq!(seen[expected - 2].id, seen[expected - 1].id, "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_refused_is_a_dead_letter_with_every_attempt_and_redirects_go_nowhere() -> Result<()>
{
    let receiver = Receiver::start(&[SECRET], None)?;
    let (server, _folder) = server(&[("PARTNER", SECRET)])?;
    let elsewhere = format!("302 location=http://127.0.0.1:{}/elsewhere", receiver.port);
    receiver.mode(&elsewhere).await?;
    server.deploy(&[("tangelo.yaml", &manifest(receiver.port, EAGER, ""))])?;
    publish(&server, "1", "o-1")?;
    let letter = dead_letter(&server).await;
    let history = letter["history"].as_array().context("its attempts")?;
    assert_eq!((history.len(), &letter["attempts"]), (3, &3.into()));
    let all = letter.to_string();
    assert!(
        all.contains("TG0430") && all.contains("answered 302") && all.contains("said so"),
        "{all}"
    );
    let seen = receiver.seen().await?;
    assert_eq!(seen.len(), 3);
    assert!(
        seen.iter()
            .all(|one| one.path == "/in?from=bus" && one.id == seen[0].id)
    );
    Ok(())
}

#[tokio::test]
async fn names_that_lead_inside_are_refused_unless_declared() -> Result<()> {
    let receiver = Receiver::start(&[SECRET], None)?;
    let (server, _folder) = server(&[("PARTNER", SECRET)])?;
    // A spelling of 127.0.0.1 that only the resolver understands, as a name would that someone else points there.
    let declared = manifest(receiver.port, EAGER, "").replace("//127.0.0.1:", "//127.1:");
    let egress = format!("        egress: ['127.0.0.1:{}']\n", receiver.port);
    server.deploy(&[("tangelo.yaml", &declared.replace(&egress, ""))])?;
    publish(&server, "1", "o-1")?;
    let letter = dead_letter(&server).await.to_string();
    assert!(
        letter.contains("TG0208") && letter.contains("127.0.0.1"),
        "{letter}"
    );
    assert_eq!(receiver.seen().await?.len(), 0);
    server.deploy(&[("tangelo.yaml", &declared)])?;
    publish(&server, "2", "o-1")?;
    assert_eq!(receiver.saw(1).await[0].json()["id"], "2");
    // What is written out as inside is not even deployed.
    let metadata = manifest(receiver.port, "", "").replace("127.0.0.1", "169.254.169.254");
    let metadata = metadata.replace(&egress.replace("127.0.0.1", "169.254.169.254"), "");
    let refused = server.deploy(&[("tangelo.yaml", &metadata)]);
    let refused = format!("{:#}", refused.err().context("is refused")?);
    assert!(
        refused.contains("is inside, where webhooks do not go"),
        "{refused}"
    );
    Ok(())
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_the_manifest_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key)?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec!["localhost".to_owned()])?;
    let leaf = params.signed_by(&key, &authority)?;
    let file = folder.path().join("leaf.pem");
    std::fs::write(&file, format!("{}{}", leaf.pem(), key.serialize_pem()))?;
    let receiver = Receiver::start(&[SECRET], file.to_str())?;
    let (server, _folder) = server(&[("PARTNER", SECRET)])?;
    let plain = format!("'http://127.0.0.1:{}/in?from=bus'", receiver.port);
    let secure = format!("'https://localhost:{}/in?from=bus'", receiver.port);
    let text = |webhook: &str| {
        let text = manifest(receiver.port, EAGER, webhook).replace(&plain, &secure);
        text.replace("['127.0.0.1:", "['localhost:")
    };
    let authority = authority.pem();
    let ca = "        ca: partner.pem\n";
    server.deploy(&[("tangelo.yaml", &text(ca)), ("partner.pem", &authority)])?;
    publish(&server, "1", "o-1")?;
    assert_eq!(receiver.saw(1).await[0].valid, [true]);
    // The system does not know it.
    server.deploy(&[("tangelo.yaml", &text(""))])?;
    publish(&server, "2", "o-1")?;
    let letter = dead_letter(&server).await.to_string();
    assert!(letter.contains("TG0408"), "{letter}");
    assert_eq!(receiver.seen().await?.len(), 1);
    // A file that holds no certificate is seen at the deploy.
    let refused = server.deploy(&[("tangelo.yaml", &text(ca)), ("partner.pem", "nothing")]);
    let refused = format!("{:#}", refused.err().context("is refused")?);
    assert!(refused.contains("no certificate in PEM"), "{refused}");
    Ok(())
}
