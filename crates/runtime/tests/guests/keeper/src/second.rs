//! `wasi:keyvalue@0.2.0-draft2`.

use crate::{
    shown,
    wasi::keyvalue0_2_0_draft2::{
        atomics::{self, Cas, CasError},
        batch,
        store::{self, Bucket, Error},
    },
};

pub fn run(verb: &str, words: &[&str]) -> String {
    let done = store::open(words[0]).and_then(|bucket| with(&bucket, verb, &words[1..]));
    done.unwrap_or_else(|error| format!("{error:?}"))
}

fn with(bucket: &Bucket, verb: &str, words: &[&str]) -> Result<String, Error> {
    match verb {
        "open" => Ok("open".to_owned()),
        "get" => Ok(shown(bucket.get(words[0])?)),
        "set" => bucket.set(words[0], words[1].as_bytes()).map(|()| "set".to_owned()),
        "large" => {
            let value = vec![b'x'; words[1].parse().expect("a number")];
            bucket.set(words[0], &value)?;
            let found = bucket.get(words[0])?;
            Ok((found.as_deref() == Some(&value)).to_string())
        }
        "delete" => bucket.delete(words[0]).map(|()| "deleted".to_owned()),
        "exists" => Ok(bucket.exists(words[0])?.to_string()),
        "increment" => {
            let by = words[1].parse().expect("a number");
            Ok(atomics::increment(bucket, words[0], by)?.to_string())
        }
        "append" => append(bucket, words[0], words[1]),
        "stale" => stale(bucket, words[0]),
        "fill" => {
            let many: usize = words[0].parse().expect("a number");
            let pairs: Vec<(String, Vec<u8>)> =
                (0..many).map(|at| (format!("key-{at:04}"), at.to_string().into_bytes())).collect();
            for part in pairs.chunks(250) {
                batch::set_many(bucket, part)?;
            }
            Ok("filled".to_owned())
        }
        "many" => {
            let keys: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let found = batch::get_many(bucket, &keys)?;
            let found = found.into_iter().map(|(key, value)| format!("{key}={}", shown(value)));
            Ok(found.collect::<Vec<_>>().join(" "))
        }
        "forget" => {
            let keys: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            batch::delete_many(bucket, &keys)?;
            Ok("forgotten".to_owned())
        }
        "count" => count(bucket),
        _ => Ok(format!("no {verb}")),
    }
}

/// Adds a word to what is there, as often as somebody else comes between.
fn append(bucket: &Bucket, key: &str, word: &str) -> Result<String, Error> {
    let mut cas = Cas::new(bucket, key)?;
    let mut tries = 1;
    loop {
        let mut value = cas.current()?.unwrap_or_default();
        value.extend_from_slice(word.as_bytes());
        match atomics::swap(cas, &value) {
            Ok(()) => return Ok(format!("after {tries}")),
            Err(CasError::CasFailed(again)) => cas = again,
            Err(CasError::StoreError(error)) => return Err(error),
        }
        tries += 1;
    }
}

/// Comes between itself.
fn stale(bucket: &Bucket, key: &str) -> Result<String, Error> {
    let cas = Cas::new(bucket, key)?;
    bucket.set(key, b"other")?;
    Ok(match atomics::swap(cas, b"mine") {
        Ok(()) => "swapped what was not there any more".to_owned(),
        Err(CasError::CasFailed(again)) => {
            let seen = shown(again.current()?);
            let done = atomics::swap(again, b"mine").is_ok();
            format!("saw {seen}, then {done}")
        }
        Err(CasError::StoreError(error)) => return Err(error),
    })
}

fn count(bucket: &Bucket) -> Result<String, Error> {
    let (mut keys, mut pages, mut cursor) = (0, 0, None::<String>);
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        keys += page.keys.len();
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(format!("{keys} keys on {pages} pages"));
        }
    }
}
