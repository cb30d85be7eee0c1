//! What becomes of a request's line, headers and identity on its way to a workload and back.

use http::Response;

use crate::{
    conversation::{Conversation, ask, post},
    house::{House, Wishes},
    upstream::{Upstream, app, everything, text},
};

#[tokio::test]
async fn a_request_reaches_its_workload_as_it_came() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    let reply = post(house.address(), "/a%20b/%C3%BC?x=%2F&y", &[], "hello").await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (200, "POST /a%20b/%C3%BC?x=%2F&y hello")
    );
    let reply = ask(house.address(), "DELETE", "/", &[]).await;
    assert_eq!(reply.body, "DELETE / ");
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    let head = conversation.ask("HEAD", "/x", &[]).await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("8"))
    );
    let next = conversation.ask("GET", "/x", &[]).await;
    assert_eq!(next.body, "GET /x ", "the connection goes on");
}

#[tokio::test]
async fn methods_that_no_route_takes_are_named() {
    let upstream = Upstream::echo().await;
    let routes = "gateway:\n  routes:\n  - {path: /orders, methods: [GET, POST], to: web}\n  - {path: /any, to: web}\n";
    let house = House::open(&app(&upstream, routes)).await;
    let refused = ask(house.address(), "DELETE", "/orders", &[]).await;
    assert_eq!((refused.status, refused.code()), (405, "TG0202"));
    assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    let options = ask(house.address(), "OPTIONS", "/orders", &[]).await;
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("GET, HEAD, OPTIONS, POST"))
    );
    assert_eq!(ask(house.address(), "OPTIONS", "*", &[]).await.status, 204);
    assert_eq!(
        upstream.seen().len(),
        0,
        "none of these was the workload's business"
    );
    assert_eq!(
        ask(house.address(), "OPTIONS", "/any", &[]).await.body,
        "OPTIONS /any "
    );
    assert_eq!(
        ask(house.address(), "HEAD", "/orders", &[]).await.status,
        200
    );
    assert_eq!(
        ask(
            house.address(),
            "CONNECT",
            "shop.test:443",
            &["Host: shop.test:443"]
        )
        .await
        .status,
        405
    );
}

#[tokio::test]
async fn without_a_route_there_is_a_problem_document() {
    let upstream = Upstream::echo().await;
    let house = House::open(&app(
        &upstream,
        "gateway: {routes: [{path: /a, to: web}]}\n",
    ))
    .await;
    let reply = ask(house.address(), "GET", "/b", &["X-Request-Id: mine-7"]).await;
    assert_eq!((reply.status, reply.code()), (404, "TG0201"));
    assert_eq!(reply.header("x-request-id"), Some("mine-7"));
    assert!(
        reply.body.contains("\"request_id\":\"mine-7\""),
        "{}",
        reply.body
    );
    assert_eq!(
        ask(house.address(), "GET", "/_tangelo/secret", &[])
            .await
            .code(),
        "TG0201"
    );
}

#[tokio::test]
async fn headers_of_a_connection_stay_on_it_both_ways() {
    let upstream = Upstream::start(|_| async {
        let mut response = text("x");
        for (name, value) in [
            ("connection", "x-inside"),
            ("x-inside", "1"),
            ("keep-alive", "timeout=9"),
            ("x-out", "1"),
        ] {
            response
                .headers_mut()
                .insert(name, value.parse().expect("is a value"));
        }
        response
    })
    .await;
    let house = House::open(&everything(&upstream)).await;
    let headers = [
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "TE: trailers",
        "Proxy-Authorization: Basic eDp5",
        "X-Tangelo-Principal: root",
        "X-Forwarded-For: 1.2.3.4",
        "Forwarded: for=1.2.3.4",
        "X-Kept: yes",
    ];
    let reply = ask(house.address(), "GET", "/", &headers).await;
    assert_eq!(
        (
            reply.header("x-inside"),
            reply.header("keep-alive"),
            reply.header("x-out")
        ),
        (None, None, Some("1"))
    );
    let seen = upstream.last();
    for gone in [
        "x-hop",
        "te",
        "proxy-authorization",
        "x-tangelo-principal",
        "forwarded",
    ] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    let said = [
        "x-kept",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
    ]
    .map(|name| seen.header(name));
    assert_eq!(
        said,
        [
            Some("yes"),
            Some("127.0.0.1"),
            Some("http"),
            Some("shop.test")
        ]
    );
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let upstream = Upstream::echo().await;
    let trusted = vec!["127.0.0.0/8".parse().expect("is a network")];
    let house = House::with(
        &everything(&upstream),
        Wishes {
            trusted,
            ..Wishes::default()
        },
    )
    .await;
    ask(
        house.address(),
        "GET",
        "/",
        &["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"],
    )
    .await;
    let seen = upstream.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn a_request_has_an_id_and_a_trace() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    let reply = ask(house.address(), "GET", "/", &["X-Request-Id: <script>"]).await;
    let made = reply.header("x-request-id").expect("one is made");
    assert_eq!(
        (made.len(), upstream.last().header("x-request-id")),
        (36, Some(made))
    );

    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("traceparent: 00-{trace}-b7ad6b7169203331-01");
    ask(
        house.address(),
        "GET",
        "/",
        &[
            &parent,
            "X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793",
        ],
    )
    .await;
    let seen = upstream.last();
    let said = seen.header("traceparent").expect("is passed on");
    assert_eq!(&said[3..35], trace);
    assert_ne!(
        &said[36..52],
        "b7ad6b7169203331",
        "spans of the platform are between"
    );
    assert!(
        seen.header("x-amzn-trace-id")
            .is_some_and(|xray| xray.contains("Root=1-0af76519-16cd43dd8448eb211c80319c"))
    );

    ask(
        house.address(),
        "GET",
        "/",
        &["X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793"],
    )
    .await;
    let said = upstream
        .last()
        .header("traceparent")
        .map(str::to_owned)
        .expect("is made from AWS's");
    assert_eq!(&said[3..35], "5759e988bd862e3fe1be46a994272793");
}

#[tokio::test]
async fn what_two_parsers_could_read_differently_is_refused() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    for target in [
        "/a/../b",
        "/a/%2e%2e/b",
        "/a//b",
        "/a/..%2fb",
        "/%zz",
        "/a%00",
    ] {
        let reply = ask(house.address(), "GET", target, &[]).await;
        assert_eq!((reply.status, reply.code()), (400, "TG0211"), "{target}");
    }
    for (target, hosts) in [
        ("/", vec!["Host: a", "Host: a"]),
        ("http://a/", vec!["Host: b"]),
        ("/", vec!["Host: a,b"]),
    ] {
        assert_eq!(
            ask(house.address(), "GET", target, &hosts).await.code(),
            "TG0211",
            "{hosts:?}"
        );
    }
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(
        ask(house.address(), "GET", "http://a:1/x?y", &["Host: a:1"])
            .await
            .body,
        "GET /x?y "
    );
}

#[tokio::test]
async fn an_encoded_slash_cannot_choose_the_guard() {
    let upstream = Upstream::echo().await;
    let workloads = format!(
        "  guard:\n    as: service\n    run: {{external: {{url: \"http://{}\"}}}}\n",
        upstream.address
    );
    let routes = "gateway:\n  routes:\n  - {path: /files/*, to: web}\n  - {path: /files/secret/*, before: [guard], to: web}\n";
    let house = House::open(&app(&upstream, &format!("{workloads}{routes}"))).await;
    assert_eq!(
        ask(house.address(), "GET", "/files/secret%2Fx", &[])
            .await
            .code(),
        "TG0211"
    );
    assert_eq!(
        ask(house.address(), "GET", "/files/open%2Fx", &[])
            .await
            .body,
        "GET /files/open%2Fx "
    );
}

#[tokio::test]
async fn paths_are_rewritten_and_queries_stay() {
    let upstream = Upstream::echo().await;
    let routes = "gateway:\n  routes:\n  - {path: /api/*, to: web, rewrite: /v2/*}\n  - {path: \"/u/{id}\", to: web, rewrite: \"/users/{id}/profile\"}\n";
    let house = House::open(&app(&upstream, routes)).await;
    assert_eq!(
        ask(house.address(), "GET", "/api/a%2Fb?q=1", &[])
            .await
            .body,
        "GET /v2/a%2Fb?q=1 "
    );
    assert_eq!(
        ask(house.address(), "GET", "/u/7", &[]).await.body,
        "GET /users/7/profile "
    );
}

#[tokio::test]
async fn a_switch_is_seen_by_the_next_request() {
    let (old, new) = (
        Upstream::echo().await,
        Upstream::start(|_| async { text("new") }).await,
    );
    let house = House::open(&everything(&old)).await;
    let mut conversation = Conversation::with(house.address()).await;
    assert_eq!(conversation.ask("GET", "/x", &[]).await.body, "GET /x ");
    house.deploy(&everything(&new)).await;
    assert_eq!(conversation.ask("GET", "/x", &[]).await.body, "new");
    house
        .deploy(&app(&new, "gateway: {routes: [{path: /only, to: web}]}\n"))
        .await;
    assert_eq!(conversation.ask("GET", "/x", &[]).await.status, 404);
}

#[tokio::test]
async fn the_app_that_was_first_keeps_its_routes() {
    let (first, second) = (
        Upstream::echo().await,
        Upstream::start(|_| async { text("second") }).await,
    );
    let house = House::open(&everything(&first)).await;
    house
        .deploy(&everything(&second).replace("app: shop", "app: late"))
        .await;
    assert_eq!(ask(house.address(), "GET", "/x", &[]).await.body, "GET /x ");
    let diagnostics = house.edge.diagnostics();
    assert_eq!(
        diagnostics
            .iter()
            .map(|d| (d.app.as_str(), d.path.as_str()))
            .collect::<Vec<_>>(),
        [("late", "/*")]
    );
}

#[tokio::test]
async fn a_workload_that_is_not_there_is_a_problem_not_a_hang() {
    let upstream = Upstream::echo().await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("is bound")
    };
    let manifest =
        everything(&upstream).replace(&upstream.address.to_string(), &nobody.to_string());
    let house = House::open(&manifest).await;
    let reply = ask(house.address(), "GET", "/", &[]).await;
    assert_eq!((reply.status, reply.code()), (503, "TG0408"));
}

#[tokio::test]
async fn statuses_and_headers_of_workloads_pass() {
    let upstream = Upstream::start(|_| async {
        let mut response: Response<_> = text("{}");
        *response.status_mut() = http::StatusCode::UNPROCESSABLE_ENTITY;
        for cookie in ["a=1", "b=2"] {
            response
                .headers_mut()
                .append("set-cookie", cookie.parse().expect("is a value"));
        }
        response
    })
    .await;
    let house = House::open(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation.send("GET", "/", &[], "").await;
    let head = conversation.head().await;
    assert!(
        head.starts_with("HTTP/1.1 422")
            && head.contains("set-cookie: a=1")
            && head.contains("set-cookie: b=2")
    );
}
