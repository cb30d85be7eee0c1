//! The mesh's socket, asked as a workload asks: with the addresses and the token of a real instance's environment.

use std::{net::SocketAddr, process::Command};

use crate::{
    conversation::{Reply, ask},
    house::House,
    upstream::{Upstream, app},
};

/// A process that answers every request with its environment, one variable per line.
const TELLS_ITS_ENVIRONMENT: &str = r#"
import http.server, os
class Tell(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = "\n".join(f"{k}={v}" for k, v in os.environ.items()).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Tell).serve_forever()
"#;

/// A house whose workload `teller` may call `web`, and what its instance knows.
async fn house(upstream: &Upstream) -> (House, Environment) {
    let script: String = TELLS_ITS_ENVIRONMENT
        .trim()
        .lines()
        .map(|line| format!("          {line}\n"))
        .collect();
    let rest = format!(
        "  teller:\n    as: service\n    calls: [web]\n    run:\n      process:\n        command:\n        - {}\n        - -c\n        - |\n{script}hosts: {{old-name: web}}\ngateway: {{routes: [{{path: /*, to: teller}}]}}\n",
        python()
    );
    let house = House::open(&app(upstream, &rest)).await;
    let told = ask(house.address(), "GET", "/", &[]).await;
    assert_eq!(told.status, 200, "{told:?}");
    let address = house.mesh.addresses()[0];
    (
        house,
        Environment {
            text: told.body,
            address,
        },
    )
}

fn python() -> String {
    let found = Command::new("sh")
        .args(["-c", "command -v python3"])
        .output()
        .expect("a shell");
    String::from_utf8(found.stdout)
        .expect("is a path")
        .trim()
        .to_owned()
}

struct Environment {
    text: String,
    address: SocketAddr,
}

impl Environment {
    fn variable(&self, name: &str) -> &str {
        let line = self
            .text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.text))
    }

    /// The path of an URL on the mesh.
    fn path(&self, name: &str) -> &str {
        let url = self.variable(name);
        url.strip_prefix(&format!("http://{}", self.address))
            .expect("an URL on the mesh")
    }

    async fn ask(&self, method: &str, target: &str, headers: &[&str]) -> Reply {
        ask(self.address, method, target, headers).await
    }
}

#[tokio::test]
async fn a_workload_calls_by_its_token() {
    let upstream = Upstream::echo().await;
    let (_house, instance) = house(&upstream).await;
    let web = instance.path("WEB_URL").to_owned();
    let reply = instance
        .ask(
            "GET",
            &format!("{web}/films/7?x=1"),
            &["X-Tangelo-Principal: root"],
        )
        .await;
    assert_eq!(reply.body, "GET /films/7?x=1 ");
    assert_eq!(upstream.last().header("x-tangelo-principal"), None);
    let head = instance.ask("HEAD", &format!("{web}/x"), &[]).await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("8"))
    );

    let undeclared = web.replace("/w/web", "/w/teller");
    assert_eq!(instance.ask("GET", &undeclared, &[]).await.code(), "TG0206");
    let unknown = instance
        .ask("GET", "/~00000000000000000000000000000000/w/web", &[])
        .await;
    assert_eq!((unknown.status, unknown.code()), (401, "TG0205"));
    assert_eq!(instance.ask("GET", "/w/web", &[]).await.code(), "TG0205");
}

#[tokio::test]
async fn names_fixed_in_old_code_are_reached_through_the_proxy() {
    let upstream = Upstream::echo().await;
    let (_house, instance) = house(&upstream).await;
    let proxy = instance.variable("http_proxy");
    let token = proxy
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once(':'))
        .expect("a token")
        .0;
    let credentials = base64(&format!("{token}:"));
    let header = format!("Proxy-Authorization: Basic {credentials}");
    let through = async |url: &str, host: &str| {
        instance
            .ask("GET", url, &[&header, &format!("Host: {host}")])
            .await
    };

    assert_eq!(
        through("http://old-name/a?b=c", "old-name").await.body,
        "GET /a?b=c "
    );
    assert_eq!(upstream.last().header("proxy-authorization"), None);
    assert_eq!(
        through("http://web.internal/x", "web.internal").await.body,
        "GET /x "
    );
    let outside = through("http://example.com/", "example.com").await;
    assert_eq!((outside.status, outside.code()), (403, "TG0208"));
    assert!(outside.body.contains("example.com"), "{}", outside.body);

    let unknown = instance
        .ask("GET", "http://old-name/", &["Host: old-name"])
        .await;
    assert_eq!((unknown.status, unknown.code()), (407, "TG0205"));
    assert!(
        unknown
            .header("proxy-authenticate")
            .is_some_and(|value| value.starts_with("Basic"))
    );
    assert_eq!(
        instance
            .ask("CONNECT", "old-name:443", &[&header])
            .await
            .code(),
        "TG0202"
    );
}

fn base64(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}
