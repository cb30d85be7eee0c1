//! What a request leaves behind: the gateway's span at the root, and those of the workloads below it.

use model::{SpanId, TraceId};
use platform::telemetry::{AttrValue, Span, Trace};

use crate::{
    conversation::{Conversation, ask},
    house::House,
    upstream::{UNREAD, Upstream, app, scripted, text},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn header() -> String {
    format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01")
}

/// The trace of the test, once its root has ended.
async fn trace(house: &House) -> Trace {
    let id: TraceId = TRACE.parse().expect("is an id");
    let telemetry = house.platform().telemetry();
    loop {
        telemetry.flush();
        match telemetry.trace(id) {
            Some(trace) if trace.spans.iter().any(|span| span.local_root) => return trace,
            _ => tokio::task::yield_now().await,
        }
    }
}

fn named<'t>(trace: &'t Trace, name: &str) -> &'t Span {
    let found = trace.spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no span `{name}` in {:?}", trace.spans))
}

#[tokio::test]
async fn the_gateways_span_is_the_root_of_all_that_a_request_caused() {
    let (web, guard) = (
        Upstream::echo().await,
        Upstream::start(|_| async { text("") }).await,
    );
    let rest = format!(
        "  guard:\n    as: service\n    run: {{external: {{url: \"http://{}\"}}}}\n\
         gateway: {{routes: [{{path: \"/films/{{id}}\", to: web, before: [guard]}}]}}\n",
        guard.address
    );
    let house = House::open(&app(&web, &rest)).await;
    ask(house.address(), "GET", "/films/7", &[&header()]).await;
    let trace = trace(&house).await;
    let root = named(&trace, "GET /films/{id}");
    assert_eq!(
        root.parent,
        Some(SpanId(0xb7ad_6b71_6920_3331)),
        "below the client's span"
    );
    assert!(root.local_root && root.error.is_none());
    assert_eq!(root.attributes.int("http.response.status_code"), Some(200));
    assert_eq!(root.attributes.text("url.path"), Some("/films/7"));
    for workload in ["web", "guard"] {
        assert_eq!(named(&trace, workload).parent, Some(root.id), "{workload}");
    }
    assert_eq!(root.invocation, named(&trace, "web").invocation);
}

#[tokio::test]
async fn a_remembered_decision_is_a_span_that_says_so() {
    let (web, guard) = (
        Upstream::echo().await,
        Upstream::start(|_| async { text("") }).await,
    );
    let rest = format!(
        "  guard:\n    as: service\n    run: {{external: {{url: \"http://{}\"}}}}\n\
         gateway: {{routes: [{{path: /, to: web, before: [{{guard: {{cache: 60s}}}}]}}]}}\n",
        guard.address
    );
    let house = House::open(&app(&web, &rest)).await;
    let credentials = "Authorization: Bearer good";
    ask(house.address(), "GET", "/", &[credentials]).await;
    ask(house.address(), "GET", "/", &[credentials, &header()]).await;
    assert_eq!(guard.seen().len(), 1);
    let trace = trace(&house).await;
    let root = named(&trace, "GET /");
    let decision = named(&trace, "guard");
    assert_eq!(decision.parent, Some(root.id));
    assert_eq!(
        decision.attributes.get("tangelo.cached"),
        Some(&AttrValue::Bool(true))
    );
    assert_eq!(decision.invocation, None, "nothing ran");
}

#[tokio::test]
async fn a_client_that_left_is_named_in_the_span() {
    let (arrived, mut arrivals) = tokio::sync::mpsc::channel(1);
    let web = Upstream::start(move |_| {
        let arrived = arrived.clone();
        async move {
            arrived.send(()).await.expect("the test waits");
            std::future::pending().await
        }
    })
    .await;
    let house = House::open(&app(&web, "gateway: {routes: [{path: /*, to: web}]}\n")).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation.send("GET", "/", &[&header()], "").await;
    arrivals.recv().await.expect("it arrived");
    drop(conversation);
    let trace = trace(&house).await;
    assert_eq!(
        named(&trace, "GET /*").error.as_deref(),
        Some("the client went away")
    );
}

#[tokio::test]
async fn a_request_that_met_a_dying_connection_is_sent_again_and_its_span_says_so() {
    // A connection answers once and dies on the second request: that meets it as one that was kept.
    let raw = scripted(&[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", UNREAD]).await;
    let house = House::open(&raw.manifest()).await;
    let mut conversation = Conversation::with(house.address()).await;
    assert_eq!(conversation.ask("GET", "/first", &[]).await.body, "ok");
    let again = conversation.ask("GET", "/again", &[&header()]).await;
    assert_eq!((again.status, again.body.as_str()), (200, "ok"));
    let trace = trace(&house).await;
    let span = named(&trace, "web");
    assert_eq!(span.attributes.int("http.request.resend_count"), Some(1));
    assert!(span.error.is_none(), "the client noticed nothing");

    // What may have been acted on is not sent twice unless that does no harm.
    let reply = conversation.ask("POST", "/once", &[]).await;
    assert_eq!((reply.status, reply.code()), (503, "TG0408"));
    let asked: Vec<_> = raw
        .heads()
        .iter()
        .map(|head| head.lines().next().expect("a request line").to_owned())
        .collect();
    let expected = ["GET /first", "GET /again"];
    assert_eq!(asked, expected.map(|line| format!("{line} HTTP/1.1")));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_ended_the_one_that_read_it_is_not_sent_to_another() {
    let raw = scripted(&[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b""]).await;
    let house = House::open(&raw.manifest()).await;
    let mut conversation = Conversation::with(house.address()).await;
    assert_eq!(conversation.ask("GET", "/first", &[]).await.body, "ok");
    let reply = conversation.ask("GET", "/poison", &[]).await;
    assert_eq!((reply.status, reply.code()), (503, "TG0408"));
    let poison = |head: &String| head.starts_with("GET /poison ");
    assert_eq!(raw.heads().iter().filter(|head| poison(head)).count(), 1);
}
