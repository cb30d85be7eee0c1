//! Bodies: read, made, passed on and left.

use wasip3::{
    clocks::monotonic_clock,
    http::types::{ErrorCode, Fields, Request, Response, Trailers},
    wit_bindgen::{StreamReader, StreamResult, StreamWriter, spawn_local},
    wit_future, wit_stream,
};

use crate::{Answer, headers};

type Ended = Result<Option<Trailers>, ErrorCode>;

/// A response whose body `write` makes while it is read.
pub fn streamed<F: Future<Output = Ended> + 'static>(
    headers: Fields,
    write: impl FnOnce(StreamWriter<u8>) -> F,
) -> Response {
    let (writer, contents) = wit_stream::new();
    let (trailers, at_end) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(contents), at_end);
    let written = write(writer);
    spawn_local(async move {
        let ended = written.await;
        let _ = trailers.write(ended).await;
    });
    response
}

/// A short text.
pub fn text(text: &str) -> Response {
    let bytes = text.as_bytes().to_vec();
    streamed(headers(), |mut writer| async move {
        writer.write_all(bytes).await;
        Ok(None)
    })
}

/// All of a request's body.
pub async fn read_all(request: Request) -> Vec<u8> {
    let (_done, result) = wit_future::new(|| Ok(()));
    let (contents, _trailers) = Request::consume_body(request, result);
    drain(contents).await
}

/// All that a stream has.
pub async fn drain(mut contents: StreamReader<u8>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = next(&mut contents).await {
        all.extend(bytes);
    }
    all
}

async fn next(contents: &mut StreamReader<u8>) -> Option<Vec<u8>> {
    match contents.read(Vec::with_capacity(16 << 10)).await {
        (StreamResult::Dropped, bytes) if bytes.is_empty() => None,
        (_, bytes) => Some(bytes),
    }
}

/// Sends back what it gets while it gets it, trailers included.
pub async fn echo(request: Request) -> Answer {
    let (_done, result) = wit_future::new(|| Ok(()));
    let (mut contents, trailers) = Request::consume_body(request, result);
    Ok(streamed(headers(), |mut writer| async move {
        while let Some(bytes) = next(&mut contents).await {
            if !writer.write_all(bytes).await.is_empty() {
                break;
            }
        }
        trailers.await
    }))
}

/// Hands the request's body over as the response's, without touching it.
pub fn pass(request: Request) -> Answer {
    let (_done, result) = wit_future::new(|| Ok(()));
    let (contents, trailers) = Request::consume_body(request, result);
    Ok(Response::new(headers(), Some(contents), trailers).0)
}

/// So many bytes.
pub fn stream(bytes: u64) -> Response {
    streamed(headers(), move |mut writer| async move {
        let mut left = bytes as usize;
        while left > 0 {
            let now = left.min(64 << 10);
            if !writer.write_all(vec![b'x'; now]).await.is_empty() {
                break;
            }
            left -= now;
        }
        Ok(None)
    })
}

/// A part now, and one after so many milliseconds.
pub fn paused(millis: u64) -> Response {
    streamed(headers(), move |mut writer| async move {
        writer.write_all(b"first\n".to_vec()).await;
        monotonic_clock::wait_for(millis * 1_000_000).await;
        writer.write_all(b"second\n".to_vec()).await;
        Ok(None)
    })
}

pub fn trailers() -> Response {
    streamed(headers(), |mut writer| async move {
        writer.write_all(b"before them\n".to_vec()).await;
        let trailers = Fields::new();
        trailers.append("x-sum", b"12").expect("a trailer");
        Ok(Some(trailers))
    })
}

/// Announces ten bytes and sends as many as it is told.
pub fn promise(bytes: u64) -> Response {
    let headers = headers();
    headers.append("content-length", b"10").expect("a header");
    streamed(headers, move |mut writer| async move {
        writer.write_all(vec![b'x'; bytes as usize]).await;
        Ok(None)
    })
}

pub fn trap_late() -> Response {
    streamed(headers(), |mut writer| async move {
        writer.write_all(b"so far so good\n".to_vec()).await;
        panic!("on purpose")
    })
}

/// Works on for so many milliseconds when its response is complete.
pub fn afterwards(millis: u64) -> Response {
    let headers = headers();
    headers.append("content-length", b"5").expect("a header");
    let response = streamed(headers, |mut writer| async move {
        writer.write_all(b"done\n".to_vec()).await;
        Ok(None)
    });
    spawn_local(async move {
        monotonic_clock::wait_for(millis * 1_000_000).await;
        println!("afterwards");
    });
    response
}
