//! What someone else runs: reached by its URL, with its own host name.

use std::{io::Write, net::TcpListener, sync::Arc, thread, time::Duration};

use model::{Run, code};
use runtime::{Input, external::Pool};

use crate::stage::{Stage, answer, get};

fn pool(stage: &Stage, url: String) -> Arc<Pool> {
    Pool::new(&stage.context, stage.spec(Run::External { url }))
}

async fn ask(
    stage: &Stage,
    pool: &Arc<Pool>,
    path: &str,
) -> Result<crate::stage::Answer, model::Error> {
    let mut request = get(path);
    let headers = request.headers_mut();
    headers.insert("host", "shop.example".parse().expect("a value"));
    headers.insert("x-forwarded-for", "192.0.2.1".parse().expect("a value"));
    let invocation = stage.invocation(Duration::from_secs(20));
    answer(pool.invoke(invocation, Input::http(request)).await).await
}

#[tokio::test]
async fn requests_go_below_the_base_path_with_the_urls_host() {
    let stage = Stage::new();
    let service = stage.service(&[], |_| {});
    let env = stage.get(&service, "/env").await.expect("an answer").json();
    let port = env["PORT"].as_str().expect("a port");
    let pool = pool(&stage, format!("http://localhost:{port}/head/"));
    pool.warm().await.expect("an URL");
    for path in ["/", "/?a=1"] {
        let seen = ask(&stage, &pool, path).await.expect("an answer").json();
        assert_eq!(seen["path"], format!("/head{}", &path[1..]));
        assert_eq!(seen["headers"]["host"], format!("localhost:{port}"));
        assert_eq!(seen["headers"]["x-forwarded-for"], "192.0.2.1");
    }
    assert_eq!(
        ask(&stage, &pool, "/deeper")
            .await
            .expect("an answer")
            .status,
        404
    );
    pool.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn nobody_there_and_no_url_are_told_apart() {
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("free");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let nobody = pool(&stage, format!("http://127.0.0.1:{port}"));
    let error = ask(&stage, &nobody, "/").await.err().expect("nobody");
    assert_eq!(error.code, code::UPSTREAM_UNREACHABLE);
    assert_eq!(nobody.stats().failures, 1);
    let wrong = pool(&stage, "gopher://x".to_owned());
    assert!(
        wrong
            .warm()
            .await
            .is_err_and(|e| e.message.contains("gopher"))
    );
}

#[tokio::test]
async fn interim_answers_without_end_are_not_read_without_end() {
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("free");
    let port = listener.local_addr().expect("bound").port();
    let flood = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let part = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        let mut sent = 0;
        while stream.write_all(&part).is_ok() {
            sent += part.len();
        }
        sent
    });
    let endless = pool(&stage, format!("http://127.0.0.1:{port}"));
    let error = ask(&stage, &endless, "/").await.err().expect("no answer");
    assert_eq!(error.code, code::UPSTREAM_UNREACHABLE);
    // It ends when the connection is closed; most of that waited in the kernel.
    let sent = flood.join().expect("ends");
    assert!(sent < 32 << 20, "{sent} bytes");
}
