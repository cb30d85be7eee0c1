//! A guest with a path for everything that a guest can do well or badly. The tests of `runtime::wasm` build it.

mod client;
mod streams;

use std::{
    io::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use wasip2::{
    cli::environment::get_environment,
    clocks::monotonic_clock,
    exports::http::incoming_handler::Guest,
    http::types::{
        ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
    },
    io::streams::StreamError,
    random::random::get_random_bytes,
};

wasip2::http::proxy::export!(Behaviours);

struct Behaviours;

impl Guest for Behaviours {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = query.parse::<u64>().unwrap_or(0);
        match path {
            "/hello" => answer(out, "hello\n"),
            "/" | "/request" => answer(out, &describe(&request)),
            "/environment" => answer(out, &environment()),
            "/echo" => streams::echo(&request, out),
            "/count" => streams::count(&request, out),
            "/stream" => streams::stream(out, number),
            "/paused" => streams::paused(out, number),
            "/spin" => spin(out, number),
            "/sleep" => sleep(out, number),
            "/memory" => hog(out, number),
            "/hold" => hold(out, number),
            "/random" => random(out, number),
            "/recurse" => answer(out, &format!("{}\n", recurse(number))),
            "/trap" => panic!("on purpose"),
            "/trap-late" => streams::trap_late(out),
            "/silent" => drop(out),
            "/refuse" => ResponseOutparam::set(out, Err(ErrorCode::InternalError(None))),
            "/exit" => std::process::exit(number as i32),
            "/abandon" => streams::abandon(out),
            "/promise" => streams::promise(out),
            "/afterwards" => streams::afterwards(out, number),
            "/again" => again(out),
            "/print" => print(out),
            "/flood" => flood(out, number),
            "/informational" => informational(out),
            "/inside" => inside(out),
            "/fetch" => client::fetch(query, out),
            "/call-itself" => client::call_itself(query, out),
            "/fan-out" => client::fan_out(out, number),
            "/leak" => leak(query),
            "/headers" => headers(out),
            "/post" => client::post(query, &request, out),
            _ => status(out, 404),
        }
    }
}

/// Answers with a short text.
pub fn answer(out: ResponseOutparam, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the first body");
    ResponseOutparam::set(out, Ok(response));
    write_all(&body, text.as_bytes()).expect("the body takes it");
    OutgoingBody::finish(body, None).expect("no length was announced");
}

/// Writes all of it, waiting for room.
pub fn write_all(body: &OutgoingBody, mut bytes: &[u8]) -> Result<(), StreamError> {
    let stream = body.write().expect("the first stream");
    while !bytes.is_empty() {
        let room = stream.check_write()?;
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(bytes.len().min(room as usize));
        stream.write(now)?;
        bytes = later;
    }
    Ok(())
}

/// How many requests this instance has had, also on its standard output.
fn again(out: ResponseOutparam) {
    static SERVED: AtomicU64 = AtomicU64::new(0);
    let served = 1 + SERVED.fetch_add(1, Relaxed);
    println!("request {served}");
    answer(out, &served.to_string());
}

fn status(out: ResponseOutparam, code: u16) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(code).expect("a status");
    let body = response.body().expect("the first body");
    ResponseOutparam::set(out, Ok(response));
    OutgoingBody::finish(body, None).expect("no length was announced");
}

fn informational(out: ResponseOutparam) {
    status(out, 101);
}

fn describe(request: &IncomingRequest) -> String {
    let mut lines = vec![
        format!("{:?}", request.method()),
        request.path_with_query().unwrap_or_default(),
        request.authority().unwrap_or_default(),
    ];
    for (name, value) in request.headers().entries() {
        lines.push(format!("{name}: {}", String::from_utf8_lossy(&value)));
    }
    lines.push(String::from_utf8_lossy(&streams::read_all(request)).into_owned());
    lines.join("\n")
}

fn environment() -> String {
    let pairs = get_environment();
    let lines = pairs.iter().map(|(name, value)| format!("{name}={value}\n"));
    lines.collect()
}

/// Never yields for so many milliseconds; for 0, never at all.
fn spin(out: ResponseOutparam, millis: u64) {
    let begin = monotonic_clock::now();
    let mut turns = 0_u64;
    while millis == 0 || monotonic_clock::now() - begin < millis * 1_000_000 {
        for _ in 0..10_000 {
            turns = std::hint::black_box(turns + 1);
        }
    }
    answer(out, "done\n");
}

/// Uses up the stack unless it is stopped.
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == u64::MAX {
        return 0;
    }
    recurse(std::hint::black_box(depth + 1)) + frame[7]
}

fn sleep(out: ResponseOutparam, millis: u64) {
    monotonic_clock::subscribe_duration(millis * 1_000_000).block();
    answer(out, "awake\n");
}

fn hog(out: ResponseOutparam, mebibytes: u64) {
    let mut kept = Vec::new();
    for _ in 0..mebibytes {
        kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
    answer(out, &format!("{}\n", kept.len()));
}

/// Has so many mebibytes, and keeps them.
fn hold(out: ResponseOutparam, mebibytes: u64) {
    let kept = std::hint::black_box(vec![1_u8; (mebibytes as usize) << 20]);
    monotonic_clock::subscribe_duration(600_000_000_000).block();
    answer(out, &format!("{}\n", kept.len()));
}

/// Asks for so many random bytes at once.
fn random(out: ResponseOutparam, bytes: u64) {
    answer(out, &format!("{}\n", get_random_bytes(bytes).len()));
}

fn print(out: ResponseOutparam) {
    println!("one");
    eprintln!("two");
    print!("three, unfinished");
    std::io::stdout().flush().expect("is taken");
    answer(out, "printed\n");
}

fn flood(out: ResponseOutparam, lines: u64) {
    let line = "x".repeat(1000);
    for _ in 0..lines {
        println!("{line}");
    }
    answer(out, "flooded\n");
}

fn inside(out: ResponseOutparam) {
    let file = std::fs::read("/etc/passwd").is_err();
    let socket = std::net::TcpStream::connect("127.0.0.1:80").is_err();
    answer(out, &format!("no file: {file}, no socket: {socket}\n"));
}

/// Takes handles and never gives one back.
fn leak(kind: &str) {
    loop {
        match kind {
            "pollables" => std::mem::forget(monotonic_clock::subscribe_duration(u64::MAX)),
            "fields" => std::mem::forget(Fields::new()),
            _ => std::mem::forget(wasip2::cli::stdout::get_stdout()),
        }
    }
}

/// Adds headers of a kibibyte each to its response: more than it may.
fn headers(out: ResponseOutparam) {
    let fields = Fields::new();
    let mut added = 0;
    while added < 100_000 && fields.append(&format!("x-{added}"), &[b'x'; 1024]).is_ok() {
        added += 1;
    }
    let response = OutgoingResponse::new(fields);
    let body = response.body().expect("the first body");
    ResponseOutparam::set(out, Ok(response));
    write_all(&body, added.to_string().as_bytes()).expect("the body takes it");
    OutgoingBody::finish(body, None).expect("no length was announced");
}
