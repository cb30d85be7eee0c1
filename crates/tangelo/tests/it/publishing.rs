//! What publishers may send, and what they are told of the rest.

use std::io::Write;

use anyhow::Result;
use flate2::{Compression, write::GzEncoder};
use http::Method;
use serde_json::{Value, json};
use testkit::{Answer, Server};

use crate::{
    contracts::{HANDLER, MANIFEST},
    server,
};

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

async fn publish(
    server: &Server,
    kind: &str,
    more: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Answer> {
    let headers = [&[("content-type", kind)], more].concat();
    let gateway = server.gateway();
    gateway
        .send(Method::POST, "/events", &headers, body.into())
        .await
}

fn event(data: &Value) -> Value {
    json!({"specversion": "1.0", "source": "/t", "type": "thing.made", "data": data})
}

#[tokio::test]
async fn what_is_packed_is_unpacked_within_its_limit_and_all_else_is_refused_with_a_code()
-> Result<()> {
    let server = server();
    server.deploy(&[HANDLER, ("tangelo.yaml", MANIFEST)])?;
    let zipped = [("content-encoding", "gzip")];
    let body = event(&json!({"text": "x".repeat(100_000)})).to_string();
    let packed = gzip(body.as_bytes())?;
    assert!(packed.len() < 2000, "it is small on its way");
    let answer = publish(&server, ONE, &zipped, packed.clone()).await?;
    assert_eq!(answer.json()["accepted"], 1, "{}", answer.text());
    let batch = json!([event(&json!(1)), event(&json!(2))]).to_string();
    let answer = publish(
        &server,
        BATCH,
        &[("content-encoding", "X-GZIP")],
        gzip(batch.as_bytes())?,
    )
    .await?;
    assert_eq!(answer.json()["accepted"], 2, "{}", answer.text());
    // A bomb: as much as a thousand times what it weighs.
    let bomb = gzip(&vec![b' '; 40 << 20])?;
    assert!(bomb.len() < 1 << 20);
    let twice = [("content-encoding", "gzip, gzip")];
    let brotli = [("content-encoding", "br")];
    let cut = packed[..packed.len() / 2].to_vec();
    let refused = [
        (ONE, zipped, bomb.clone(), 413, "TG0203"),
        (BATCH, zipped, bomb, 413, "TG0203"),
        (ONE, zipped, cut, 400, "TG0501"),
        (ONE, zipped, body.clone().into_bytes(), 400, "TG0501"),
        (ONE, brotli, body.clone().into_bytes(), 415, "TG0512"),
        (ONE, twice, gzip(&packed)?, 415, "TG0512"),
    ];
    for (kind, headers, body, status, code) in refused {
        let answer = publish(&server, kind, &headers, body).await?;
        let told = (answer.status.as_u16(), answer.json()["code"].clone());
        assert_eq!(
            told,
            (status, code.into()),
            "{headers:?}: {}",
            answer.text()
        );
    }
    // A batch of nothing is one.
    let answer = publish(&server, BATCH, &[], b"[]".to_vec()).await?;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (202, json!({"accepted": 0, "events": []}))
    );
    let mut many = event(&json!(1));
    for n in 0..65 {
        many[format!("x{n}")] = "y".into();
    }
    let answer = publish(&server, ONE, &[], many.to_string().into_bytes()).await?;
    assert_eq!(answer.json()["code"], "TG0501", "{}", answer.text());
    // The HTTP library answers a head beyond its limit itself.
    let names: Vec<String> = (0..3000).map(|n| format!("x-{n}")).collect();
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), "y")).collect();
    let answer = publish(&server, ONE, &headers, body.into_bytes()).await?;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (431, 0));
    numbers(&server).await
}

/// Numbers that JSON can hold and a double cannot: whole ones of 64 bits stay as they are, all others are the nearest double.
async fn numbers(server: &Server) -> Result<()> {
    let sent = r#"{"max": 18446744073709551615, "min": -9223372036854775808, "odd": 9007199254740993, "price": 0.1, "tiny": 5e-324,
        "long": 3.14159265358979323846, "beyond": 18446744073709551616}"#;
    let whole = event(&Value::Null)
        .to_string()
        .replace("\"data\":null", &format!("\"data\":{sent}"));
    let answer = publish(server, ONE, &[], whole.into_bytes()).await?;
    let position = answer.json()["events"][0]["position"].to_string();
    let before = (position.parse::<u64>()? - 1).to_string();
    let tail = server.cli(&["--json", "events", "tail", "--after", &before])?;
    let tail = String::from_utf8(tail.stdout)?;
    let kept = r#"{"max":18446744073709551615,"min":-9223372036854775808,"odd":9007199254740993,"price":0.1,"tiny":5e-324,"long":3.141592653589793,"beyond":1.8446744073709552e+19}"#;
    assert!(tail.contains(kept), "{tail}");
    // What no double is near to is refused.
    let whole = event(&Value::Null).to_string().replace("null", "1e400");
    let answer = publish(server, ONE, &[], whole.into_bytes()).await?;
    assert_eq!(answer.json()["code"], "TG0501", "{}", answer.text());
    Ok(())
}
