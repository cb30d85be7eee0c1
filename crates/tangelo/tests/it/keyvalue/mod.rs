//! Buckets: kept by Wasm guests (`wasi:keyvalue`), by handlers and by processes over the mesh, seen by operators, as far as
//! manifests declare, and there after a kill. Beside them what guests read as configuration (`wasi:config`).

mod together;

use std::fs;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use testkit::{Answer, Server, eventually};

use crate::server;

const MANIFEST: &str = "
app: shop
workloads:
  keeper:
    as: function
    run: {wasm: {component: keeper.wasm}}
    env: {GREETING: hello, LEVEL: '3'}
    secrets: [API_KEY]
    state: [{kv: carts}, {kv: counts}, {kv: {bucket: prices, access: read}}, {kv: default}]
  proxy:
    as: service
    run: {process: {command: [python3, proxy.py]}}
    state: [{kv: carts}, {kv: {bucket: prices, access: read}}]
  count:
    as: function
    run: {lambda: {runtime: python3, handler: count.handler, code: code}}
    state: [{kv: counts}]
  stranger:
    as: function
    run: {lambda: {runtime: python3, handler: count.handler, code: code}}
gateway:
  routes:
    - {path: /keeper/*, to: keeper, rewrite: /*}
    - {path: /kv/*, to: proxy, rewrite: /*}
    - {path: /count, to: count}
    - {path: /stranger, to: stranger}
";

const OTHER: &str = "
app: other
workloads:
  keeper:
    as: function
    run: {wasm: {component: keeper.wasm}}
    state: [{kv: carts}]
gateway: {routes: [{path: /other/*, to: keeper, rewrite: /*}]}
";

/// Passes requests on to its buckets as they come.
const PROXY: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PASSED = ("if-match", "if-none-match")

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name: self.headers[name] for name in PASSED if self.headers.get(name)}
        path = "" if self.path == "/" else self.path
        request = Request(os.environ["TANGELO_KV_URL"] + path, method=self.command, headers=headers,
                          data=body if self.command in ("PUT", "POST") else None)
        try:
            answer = urlopen(request)
        except HTTPError as error:
            answer = error
        value = answer.read()
        self.send_response(answer.status)
        if answer.headers.get("etag"):
            self.send_header("etag", answer.headers["etag"])
        if answer.status not in (204, 304):
            self.send_header("content-length", answer.headers.get("content-length") or str(len(value)))
        self.end_headers()
        self.wfile.write(value)
    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const COUNT: &str = r#"
import os
from urllib.request import Request, urlopen

def handler(event, context):
    url = os.environ.get("TANGELO_KV_URL")
    if url is None:
        return "no buckets"
    with urlopen(Request(url + "/counts/calls?increment=1", method="POST")) as answer:
        return answer.read().decode()
"#;

fn stage() -> Result<Server> {
    let server = server();
    let folder = server.scratch();
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("keeper.wasm"), testkit::component("keeper"))?;
    let secrets = server.data().join("secrets.toml");
    fs::write(secrets, "API_KEY = \"nobody reads this\"\n")?;
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("proxy.py", PROXY),
        ("code/count.py", COUNT),
    ])?;
    Ok(server)
}

async fn keeper(server: &Server, path: &str) -> Result<String> {
    let answer = server.gateway().get(&format!("/keeper/{path}")).await?;
    let text = answer.text();
    ensure!(answer.status == StatusCode::OK, "{path}: {text}");
    Ok(text)
}

/// A table of what the guest is told to do and what it has to answer.
async fn check(server: &Server, table: &[(&str, &str)]) -> Result<()> {
    for (path, expected) in table {
        assert_eq!(keeper(server, path).await?, *expected, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_guest_keeps_things_in_both_drafts_of_the_interface() -> Result<()> {
    let server = stage()?;
    check(
        &server,
        &[
            ("second/get?carts,a", "nothing"),
            ("second/set?carts,a,one", "set"),
            ("second/get?carts,a", "one"),
            ("first/get?carts,a", "one"),
            ("second/exists?carts,a", "true"),
            ("first/set?carts,b,two", "set"),
            ("second/many?carts,b,none,a", "b=two none=nothing a=one"),
            ("first/many?carts,b,none,a", "b=two nothing a=one"),
            ("second/forget?carts,a,none", "forgotten"),
            ("first/exists?carts,a", "false"),
            ("first/delete?carts,b", "deleted"),
            ("second/delete?carts,b", "deleted"),
            ("second/large?carts,l,100000", "true"),
            ("second/increment?counts,n,5", "5"),
            ("second/increment?counts,n,-7", "-2"),
            (
                "first/increment?counts,u,18446744073709551615",
                "18446744073709551615",
            ),
            ("second/append?carts,w,one-", "after 1"),
            ("second/append?carts,w,two", "after 1"),
            ("second/get?carts,w", "one-two"),
            ("second/stale?carts,w", "saw other, then true"),
            ("second/get?carts,w", "mine"),
            ("second/set?,in-the-default-bucket,x", "set"),
            ("second/get?default,in-the-default-bucket", "x"),
            ("second/fill?counts,1990", "filled"),
            ("second/count?counts", "1992 keys on 2 pages"),
            ("first/count?counts", "1992 keys on 2 pages"),
        ],
    )
    .await?;
    for (path, says) in [
        ("second/increment?carts,w,1", "no whole number"),
        ("first/increment?counts,u,1", "beyond 64 bits"),
        ("second/large?carts,l,9000000", "8MiB"),
        ("second/get?carts,", "cannot be empty"),
    ] {
        let told = keeper(&server, path).await?;
        assert!(
            told.starts_with("Error::Other") && told.contains(says),
            "{path}: {told}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_declared_is_denied_and_said() -> Result<()> {
    let server = stage()?;
    check(
        &server,
        &[
            ("second/open?prices", "open"),
            ("second/set?prices,a,1", "Error::AccessDenied"),
            ("second/increment?prices,a,1", "Error::AccessDenied"),
            ("second/open?secrets", "Error::AccessDenied"),
            ("first/set?Not_A_Name,a,1", "Error::AccessDenied"),
        ],
    )
    .await?;
    eventually("the log says what to add", || async {
        let logs = server.cli(&["--json", "logs", "keeper"]).ok()?.stdout;
        let logs = String::from_utf8_lossy(&logs);
        (logs.contains("add `{kv: secrets}` to its `state:`") && logs.contains("TG0213"))
            .then_some(())
    })
    .await;
    let gateway = server.gateway();
    assert_eq!(gateway.get("/stranger").await?.text(), "no buckets");
    let put = gateway
        .send(Method::PUT, "/kv/prices/a", &[], Bytes::from("1"))
        .await?;
    assert_eq!(
        (put.status, &put.json()["code"]),
        (StatusCode::FORBIDDEN, &"TG0213".into())
    );
    let missing = gateway.get("/kv/counts/a").await?;
    assert_eq!(missing.status, StatusCode::FORBIDDEN);
    assert_eq!(
        gateway.get("/kv/prices/a").await?.status,
        StatusCode::NOT_FOUND
    );
    Ok(())
}

#[tokio::test]
async fn two_apps_do_not_see_each_others_buckets() -> Result<()> {
    let server = stage()?;
    let folder = server.scratch().join("other");
    fs::create_dir_all(&folder)?;
    fs::copy(
        server.scratch().join("keeper.wasm"),
        folder.join("keeper.wasm"),
    )?;
    fs::write(folder.join("tangelo.yaml"), OTHER)?;
    server.deploy_folder(&folder)?;
    keeper(&server, "second/set?carts,a,mine").await?;
    let other = async |path: &str| -> Result<String> {
        Ok(server
            .gateway()
            .get(&format!("/other/{path}"))
            .await?
            .text())
    };
    assert_eq!(other("second/get?carts,a").await?, "nothing");
    assert_eq!(other("second/set?carts,a,theirs").await?, "set");
    assert_eq!(keeper(&server, "second/get?carts,a").await?, "mine");
    // An operator has to say which.
    let ambiguous = server.cli(&["kv", "get", "carts", "a"])?;
    let said = String::from_utf8_lossy(&ambiguous.stderr).into_owned();
    assert!(
        !ambiguous.status.success() && said.contains("other/carts"),
        "{said}"
    );
    let theirs = server.json(&["kv", "get", "other/carts", "a"])?;
    assert_eq!(theirs["value"], "theirs");
    Ok(())
}

#[tokio::test]
async fn processes_and_handlers_reach_buckets_over_the_mesh() -> Result<()> {
    let server = stage()?;
    let gateway = server.gateway();
    let send = async |method: Method,
                      path: &str,
                      headers: &[(&str, &str)],
                      body: &str|
           -> Result<Answer> {
        gateway
            .send(
                method,
                &format!("/kv{path}"),
                headers,
                Bytes::copy_from_slice(body.as_bytes()),
            )
            .await
    };
    let made = send(Method::PUT, "/carts/a%2Fb", &[], "one").await?;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let first = made.header("etag").to_owned();
    // The same key, written without escapes, from a guest too.
    assert_eq!(keeper(&server, "second/get?carts,a/b").await?, "one");
    let got = send(Method::GET, "/carts/a/b", &[], "").await?;
    assert_eq!(
        (got.text().as_str(), got.header("etag")),
        ("one", first.as_str())
    );
    let same = send(Method::GET, "/carts/a/b", &[("if-none-match", &first)], "").await?;
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    let again = send(Method::PUT, "/carts/a/b", &[("if-none-match", "*")], "two").await?;
    assert_eq!(
        (again.status, &again.json()["code"]),
        (StatusCode::PRECONDITION_FAILED, &"TG0710".into())
    );
    let changed = send(Method::PUT, "/carts/a/b", &[("if-match", &first)], "two").await?;
    assert_eq!(changed.status, StatusCode::NO_CONTENT);
    let stale = send(Method::DELETE, "/carts/a/b", &[("if-match", &first)], "").await?;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let head = send(Method::HEAD, "/carts/a/b", &[], "").await?;
    assert_eq!(
        (head.status, head.header("etag")),
        (StatusCode::OK, changed.header("etag"))
    );
    let sum = send(Method::POST, "/carts/n?increment=40", &[], "").await?;
    assert_eq!(sum.text(), "40");
    assert_eq!(
        send(Method::POST, "/carts/n?increment=2", &[], "")
            .await?
            .text(),
        "42"
    );
    let listed = send(Method::GET, "/carts?limit=1", &[], "").await?.json();
    assert_eq!(
        (&listed["keys"][0]["key"], &listed["next"]),
        (&"a/b".into(), &"a/b".into())
    );
    let rest = send(Method::GET, "/carts?limit=5&after=a%2Fb", &[], "")
        .await?
        .json();
    assert_eq!(
        (&rest["keys"][0]["key"], &rest["next"]),
        (&"n".into(), &serde_json::Value::Null)
    );
    let buckets = send(Method::GET, "/", &[], "").await?.json();
    assert_eq!(
        buckets["buckets"].as_array().map(Vec::len),
        Some(2),
        "{buckets}"
    );
    assert_eq!(
        send(Method::DELETE, "/carts/a/b", &[], "").await?.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        send(Method::GET, "/carts/a/b", &[], "").await?.status,
        StatusCode::NOT_FOUND
    );
    for (path, code) in [
        ("/carts/n?limits=1", "TG0211"),
        ("/carts/n", "TG0211"),
        ("/carts/%01", "TG0713"),
    ] {
        let refused = send(Method::POST, path, &[], "").await?;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (StatusCode::BAD_REQUEST, &code.into()),
            "{path}"
        );
    }
    let large = "x".repeat((8 << 20) + 1);
    assert_eq!(
        send(Method::PUT, "/carts/l", &[], &large).await?.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(gateway.get("/count").await?.text(), "1");
    assert_eq!(gateway.get("/count").await?.text(), "2");
    Ok(())
}

#[tokio::test]
async fn operators_have_the_same_verbs() -> Result<()> {
    let server = stage()?;
    let put = server.json(&["kv", "put", "carts", "a b/ä", "by hand"])?;
    let etag = put["etag"].as_str().unwrap_or_default().to_owned();
    let got = server.json(&["kv", "get", "carts", "a b/ä"])?;
    assert_eq!(
        (&got["value"], got["etag"].as_str()),
        (&"by hand".into(), Some(etag.as_str()))
    );
    let plain = server.cli(&["kv", "get", "carts", "a b/ä"])?;
    assert_eq!(plain.stdout, b"by hand");
    for refused in [
        &["kv", "put", "carts", "a b/ä", "x", "--if-absent"][..],
        &["kv", "put", "carts", "a b/ä", "x", "--if-match", "999"],
        &["kv", "delete", "carts", "a b/ä", "--if-match", "999"],
    ] {
        let output = server.cli(refused)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("TG0710"),
            "{said}"
        );
    }
    server.json(&[
        "kv",
        "put",
        "carts",
        "a b/ä",
        "again",
        "--if-match",
        etag.trim_matches('"'),
    ])?;
    assert_eq!(
        server.json(&["kv", "increment", "counts", "n", "-3"])?["value"],
        -3
    );
    assert_eq!(keeper(&server, "second/increment?counts,n,4").await?, "1");
    let listed = server.json(&["kv", "list", "carts", "--prefix", "a"])?;
    assert_eq!(listed["keys"][0]["key"], "a b/ä");
    let buckets = server.json(&["kv", "buckets", "--app", "shop"])?;
    let known: Vec<_> = buckets["buckets"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let keys = known
        .iter()
        .map(|b| (b["bucket"].as_str(), b["keys"].as_u64()));
    let expected = [("carts", 1), ("counts", 1), ("default", 0), ("prices", 0)];
    assert!(
        keys.eq(expected.map(|(name, n)| (Some(name), Some(n)))),
        "{buckets}"
    );
    server.json(&["kv", "delete", "carts", "a b/ä"])?;
    let gone = server.cli(&["kv", "get", "carts", "a b/ä"])?;
    assert!(String::from_utf8_lossy(&gone.stderr).contains("TG0714"));
    let unknown = server.cli(&["kv", "get", "cart", "a"])?;
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("shop/carts"));
    Ok(())
}

#[tokio::test]
async fn configuration_is_what_the_manifest_gives_and_no_secret() -> Result<()> {
    let server = stage()?;
    check(
        &server,
        &[
            ("config/get?GREETING", "Some(\"hello\")"),
            ("config/get?LEVEL", "Some(\"3\")"),
            ("config/get?API_KEY", "None"),
            ("config/get?TANGELO_KV_URL", "None"),
            (
                "config/all",
                "[(\"GREETING\", \"hello\"), (\"LEVEL\", \"3\")]",
            ),
        ],
    )
    .await
}
