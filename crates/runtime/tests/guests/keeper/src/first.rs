//! `wasi:keyvalue@0.2.0-draft`.

use crate::{
    shown,
    wasi::keyvalue0_2_0_draft::{
        atomics, batch,
        store::{self, Bucket, Error},
    },
};

pub fn run(verb: &str, words: &[&str]) -> String {
    let done = store::open(words[0]).and_then(|bucket| with(&bucket, verb, &words[1..]));
    done.unwrap_or_else(|error| format!("{error:?}"))
}

fn with(bucket: &Bucket, verb: &str, words: &[&str]) -> Result<String, Error> {
    match verb {
        "get" => Ok(shown(bucket.get(words[0])?)),
        "set" => bucket.set(words[0], words[1].as_bytes()).map(|()| "set".to_owned()),
        "delete" => bucket.delete(words[0]).map(|()| "deleted".to_owned()),
        "exists" => Ok(bucket.exists(words[0])?.to_string()),
        "increment" => {
            let by = words[1].parse().expect("a number");
            Ok(atomics::increment(bucket, words[0], by)?.to_string())
        }
        "many" => {
            let keys: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let found = batch::get_many(bucket, &keys)?;
            let found = found.into_iter().map(|pair| match pair {
                Some((key, value)) => format!("{key}={}", shown(Some(value))),
                None => "nothing".to_owned(),
            });
            Ok(found.collect::<Vec<_>>().join(" "))
        }
        "count" => {
            let (mut keys, mut pages, mut cursor) = (0, 0, None);
            loop {
                let page = bucket.list_keys(cursor)?;
                keys += page.keys.len();
                pages += 1;
                cursor = page.cursor;
                if cursor.is_none() {
                    return Ok(format!("{keys} keys on {pages} pages"));
                }
            }
        }
        _ => Ok(format!("no {verb}")),
    }
}
