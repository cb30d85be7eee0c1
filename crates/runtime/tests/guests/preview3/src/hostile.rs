//! What a guest should not do.

use wasip3::{
    clocks::monotonic_clock,
    http::types::{ErrorCode, Fields, Request},
    wit_bindgen::{spawn_local, yield_async},
    wit_future, wit_stream,
};

use crate::{Answer, bodies::text, gather};

pub async fn handle(path: &str, query: &str) -> Answer {
    let number = query.parse::<u64>().unwrap_or(0);
    match path {
        "/trap" => panic!("on purpose"),
        "/refuse" => Err(ErrorCode::InternalError(None)),
        "/exit" => std::process::exit(number as i32),
        "/spin" => spin(number),
        "/yield" => loop {
            yield_async().await;
        },
        "/memory" => hog(number),
        "/flood" => flood(number),
        "/leak" => leak(query).await,
        "/recurse" => Ok(text(&recurse(number).to_string())),
        _ => Ok(text(&format!("no {path}"))),
    }
}

/// Comes in beside others (`many,what`), and then does it.
pub async fn among(query: &str) -> Answer {
    let (many, what) = query.split_once(',').expect("many,what");
    gather(many.parse().expect("a number")).await;
    let (path, query) = what.split_once(',').unwrap_or((what, ""));
    if path == "sleep" {
        monotonic_clock::wait_for(query.parse::<u64>().expect("millis") * 1_000_000).await;
        return Ok(text("awake\n"));
    }
    handle(&format!("/{path}"), query).await
}

/// Never yields for so many milliseconds; for 0, never at all.
fn spin(millis: u64) -> Answer {
    let begin = monotonic_clock::now();
    let mut turns = 0_u64;
    while millis == 0 || monotonic_clock::now() - begin < millis * 1_000_000 {
        for _ in 0..10_000 {
            turns = std::hint::black_box(turns + 1);
        }
    }
    Ok(text("done\n"))
}

fn hog(mebibytes: u64) -> Answer {
    let mut kept = Vec::new();
    for _ in 0..mebibytes {
        kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
    Ok(text(&format!("{}\n", kept.len())))
}

fn flood(lines: u64) -> Answer {
    let line = "x".repeat(1000);
    for _ in 0..lines {
        println!("{line}");
    }
    Ok(text("flooded\n"))
}

/// Takes what it can get, and never gives one back.
async fn leak(kind: &str) -> Answer {
    loop {
        match kind {
            "streams" => std::mem::forget(wit_stream::new::<u8>()),
            "futures" => std::mem::forget(wit_future::new::<Result<(), ErrorCode>>(|| Ok(()))),
            "fields" => std::mem::forget(Fields::new()),
            "requests" => {
                let (_, trailers) = wit_future::new(|| Ok(None));
                std::mem::forget(Request::new(Fields::new(), None, trailers, None));
            }
            _ => {
                // Timers, which only begin when somebody else is let go on.
                for _ in 0..100 {
                    spawn_local(monotonic_clock::wait_for(u64::MAX / 2));
                }
                yield_async().await;
            }
        }
    }
}

/// Uses up the stack unless it is stopped.
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == u64::MAX {
        return 0;
    }
    recurse(std::hint::black_box(depth + 1)) + frame[7]
}
