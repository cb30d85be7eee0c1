//! Workloads that are asked before a route's target, and how long what they said holds.

use std::time::Duration;

use http::StatusCode;
use model::{Clock, Time};

use crate::{
    conversation::ask,
    house::{House, Wishes},
    upstream::{Upstream, app, text},
};

/// Lets `Bearer good` and `Bearer short` pass as Ann.
async fn guard() -> Upstream {
    Upstream::start(|request| async move {
        let credentials = request
            .headers()
            .get("authorization")
            .map(|v| v.as_bytes().to_vec())
            .unwrap_or_default();
        let mut response = text("said");
        let mut header = |name: &'static str, value: &'static str| {
            response
                .headers_mut()
                .insert(name, value.parse().expect("is a value"));
        };
        match credentials.as_slice() {
            b"Bearer good" | b"Bearer short" | b"" => {
                header("x-user", "ann");
                header("x-tangelo-principal", "ann@shop");
                header("content-language", "en");
            }
            _ => header("www-authenticate", "Bearer"),
        }
        match credentials.as_slice() {
            b"Bearer short" => header("cache-control", "max-age=5"),
            b"Bearer bad" => *response.status_mut() = StatusCode::UNAUTHORIZED,
            _ => {}
        }
        response
    })
    .await
}

fn manifest(web: &Upstream, guard: &Upstream, before: &str) -> String {
    let guard = format!(
        "  guard:\n    as: service\n    run: {{external: {{url: \"http://{}\"}}}}\n",
        guard.address
    );
    app(
        web,
        &format!(
            "{guard}gateway: {{routes: [{{path: /api/*, to: web, before: [{before}], rewrite: /*}}]}}\n"
        ),
    )
}

#[tokio::test]
async fn who_passes_brings_what_was_said_of_them() {
    let (web, guard) = (Upstream::echo().await, guard().await);
    let house = House::open(&manifest(&web, &guard, "guard")).await;
    let headers = [
        "Authorization: Bearer good",
        "X-User: root",
        "X_User: root",
        "Content-Length: 0",
        "X-Other: kept",
    ];
    let reply = ask(house.address(), "PUT", "/api/x?y=1", &headers).await;
    assert_eq!(reply.body, "PUT /x?y=1 ");
    let asked = guard.last();
    assert_eq!(
        (asked.method.as_str(), asked.uri.as_str()),
        ("PUT", "/api/x?y=1"),
        "the path as the client sent it"
    );
    let seen = web.last();
    assert_eq!(
        seen.header("x_user"),
        None,
        "many servers take it for x-user"
    );
    let said = [
        "x-user",
        "x-tangelo-principal",
        "x-other",
        "content-language",
    ]
    .map(|name| seen.header(name));
    assert_eq!(said, [Some("ann"), Some("ann@shop"), Some("kept"), None]);
    let traces = [asked.header("traceparent"), seen.header("traceparent")]
        .map(|t| t.expect("is traced")[3..35].to_owned());
    assert_eq!(traces[0], traces[1], "one trace");
}

#[tokio::test]
async fn who_does_not_pass_hears_it_as_it_was_said() {
    let (web, guard) = (Upstream::echo().await, guard().await);
    let house = House::open(
        &manifest(&web, &guard, "guard: {cache: 60s}")
            .replace("[guard: {cache: 60s}]", "[{guard: {cache: 60s}}]"),
    )
    .await;
    for _ in 0..2 {
        let reply = ask(
            house.address(),
            "GET",
            "/api/x",
            &["Authorization: Bearer bad"],
        )
        .await;
        assert_eq!(
            (
                reply.status,
                reply.body.as_str(),
                reply.header("www-authenticate")
            ),
            (401, "said", Some("Bearer"))
        );
    }
    assert_eq!(
        (guard.seen().len(), web.seen().len()),
        (2, 0),
        "a refusal is never remembered"
    );
}

#[tokio::test]
async fn a_decision_holds_for_its_time_and_its_credentials() {
    let (web, guard) = (Upstream::echo().await, guard().await);
    let clock = Clock::virtual_at(Time::from_millis(1_790_000_000_000));
    let wishes = Wishes {
        clock: clock.clone(),
        ..Wishes::default()
    };
    let house = House::with(&manifest(&web, &guard, "{guard: {cache: 60s}}"), wishes).await;
    let check = async |credentials: &str, asked: usize| {
        let headers: &[&str] = if credentials.is_empty() {
            &[]
        } else {
            &[credentials]
        };
        assert_eq!(
            ask(house.address(), "GET", "/api/x", headers).await.status,
            200
        );
        assert_eq!(guard.seen().len(), asked, "{credentials}");
        assert_eq!(web.last().header("x-user"), Some("ann"), "{credentials}");
    };
    check("Authorization: Bearer good", 1).await;
    check("Authorization: Bearer good", 1).await;
    check("Authorization: Bearer short", 2).await;
    clock.advance(Duration::from_secs(6));
    check("Authorization: Bearer good", 2).await;
    check("Authorization: Bearer short", 3).await;
    clock.advance(Duration::from_secs(60));
    check("Authorization: Bearer good", 4).await;
    check("", 5).await;
    check("", 6).await;
    let same = ["Authorization: Bearer good"];
    for (method, path) in [
        ("GET", "/api/admin"),
        ("DELETE", "/api/x"),
        ("GET", "/api/x?a"),
    ] {
        ask(house.address(), method, path, &same).await;
    }
    assert_eq!(
        guard.seen().len(),
        9,
        "what is asked for is another decision"
    );
}
