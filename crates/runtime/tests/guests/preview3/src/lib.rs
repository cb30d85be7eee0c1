//! A guest of WASI 0.3 with a path for everything that one can do well or badly, alone or beside other requests in its
//! instance. The tests of `runtime::wasm` build it.

mod bodies;
mod client;
mod hostile;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use wasip3::{
    cli::{environment::get_environment, stdout},
    clocks::monotonic_clock,
    exports::http::handler::Guest,
    http::types::{ErrorCode, Fields, Request, Response},
    wit_bindgen, wit_stream,
};

use self::bodies::{read_all, text};

wit_bindgen::generate!({ path: "wit", world: "settings", generate_all });
wasip3::http::service::export!(Preview3);

struct Preview3;

type Answer = Result<Response, ErrorCode>;

impl Guest for Preview3 {
    async fn handle(request: Request) -> Answer {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = query.parse::<u64>().unwrap_or(0);
        match path {
            "/hello" => Ok(text("hello\n")),
            "/" | "/request" => Ok(text(&describe(request).await)),
            "/environment" => Ok(text(&environment())),
            "/config" => Ok(text(&format!("{:?}", wasi::config::store::get(query)))),
            "/echo" => bodies::echo(request).await,
            "/pass" => bodies::pass(request),
            "/stream" => Ok(bodies::stream(number)),
            "/paused" => Ok(bodies::paused(number)),
            "/trailers" => Ok(bodies::trailers()),
            "/promise" => Ok(bodies::promise(number)),
            "/trap-late" => Ok(bodies::trap_late()),
            "/afterwards" => Ok(bodies::afterwards(number)),
            "/again" => Ok(again()),
            "/overlap" => Ok(overlap(number).await),
            "/among" => hostile::among(query).await,
            "/sleep" => Ok(sleep(number).await),
            "/print" => Ok(print(query).await),
            "/fetch" => Ok(client::fetch(query).await),
            "/post" => Ok(client::post(query, request).await),
            "/fan-out" => Ok(client::fan_out(number).await),
            "/status" => Ok(status(number)),
            _ => hostile::handle(path, query).await,
        }
    }
}

fn status(code: u64) -> Response {
    let response = text("");
    response.set_status_code(code as u16).expect("a status");
    response
}

async fn describe(request: Request) -> String {
    let mut lines = vec![
        format!("{:?}", request.get_method()),
        format!("{:?}", request.get_scheme()),
        request.get_path_with_query().unwrap_or_default(),
        request.get_authority().unwrap_or_default(),
    ];
    for (name, value) in request.get_headers().copy_all() {
        let value = String::from_utf8_lossy(&value);
        if name == "ce-id" {
            println!("event {value}");
        }
        lines.push(format!("{name}: {value}"));
    }
    lines.push(String::from_utf8_lossy(&read_all(request).await).into_owned());
    lines.join("\n")
}

fn environment() -> String {
    let pairs = get_environment();
    let lines = pairs.iter().map(|(name, value)| format!("{name}={value}\n"));
    lines.collect()
}

/// How many requests this instance has had.
fn again() -> Response {
    static SERVED: AtomicU64 = AtomicU64::new(0);
    text(&(1 + SERVED.fetch_add(1, SeqCst)).to_string())
}

/// Those inside this instance at the same time.
static INSIDE: AtomicU64 = AtomicU64::new(0);

/// Comes in, and waits until so many are inside.
pub async fn gather(many: u64) {
    INSIDE.fetch_add(1, SeqCst);
    while INSIDE.load(SeqCst) < many {
        monotonic_clock::wait_for(1_000_000).await;
    }
}

/// Answers when so many requests are inside this instance at the same time.
async fn overlap(many: u64) -> Response {
    gather(many).await;
    text(&format!("{many} inside\n"))
}

async fn sleep(millis: u64) -> Response {
    monotonic_clock::wait_for(millis * 1_000_000).await;
    text("awake\n")
}

/// Prints a line through each WASI before and after another such request has come in.
async fn print(name: &str) -> Response {
    println!("{name} begins");
    gather(2).await;
    println!("{name} ends");
    let (mut lines, printed) = wit_stream::new();
    let taken = stdout::write_via_stream(printed);
    lines.write_all(format!("{name} in 0.3\n").into_bytes()).await;
    drop(lines);
    taken.await.expect("it is taken");
    text("printed\n")
}

/// No headers.
pub fn headers() -> Fields {
    Fields::new()
}
