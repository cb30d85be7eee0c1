//! Answers that break off, or say twice how long they are: nobody takes a part for the whole.

use crate::{conversation::Conversation, house::House, upstream::scripted};

/// How often each is tried: whether the end comes with the head or after it is chance.
const TRIES: usize = 8;

#[tokio::test]
async fn what_breaks_off_before_its_first_byte_is_no_empty_answer() {
    for wire in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let raw = scripted(Vec::leak(vec![wire])).await;
        let house = House::open(&raw.manifest()).await;
        let wire = String::from_utf8_lossy(wire);
        for _ in 0..TRIES {
            let mut conversation = Conversation::with(house.address()).await;
            let head = ["Connection: close"];
            conversation.send("GET", "/", &head, "").await;
            let all = conversation.rest().await.to_ascii_lowercase();
            let refused = all.starts_with("http/1.1 503 ") && all.contains("tg0408");
            let cut_off = all.starts_with("http/1.1 200 ")
                && !all.contains("content-length: 0\r\n")
                && !all.ends_with("0\r\n\r\n");
            assert!(refused || cut_off, "{wire:?} became {all:?}");
        }
    }
}

#[tokio::test]
async fn chunks_say_how_long_it_is_where_a_length_does_too() {
    for length in [0, 2, 5, 9] {
        let wire = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n"
        );
        let raw = scripted(Vec::leak(vec![wire.leak().as_bytes()])).await;
        let house = House::open(&raw.manifest()).await;
        let mut conversation = Conversation::with(house.address()).await;
        let reply = conversation.ask("GET", "/", &[]).await;
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (200, "whole"),
            "{length}"
        );
    }
}
