//! `state`: what a workload keeps beyond its instances. A folder of its own, buckets and streams of its app.

use model::{Workload, keyvalue::Access};

use crate::{
    reader::{Reader, shown},
    tree::{Node, Value},
};

/// What `state` may list as a word.
const WORDS: &[&str] = &["folder", "streams"];
/// What an entry of `state` may be as a map.
const KEYS: &[&str] = &["kv", "streams"];
/// Of those, what one that is a bucket has.
#[cfg(test)]
pub(crate) const BUCKET_KEYS: &[&str] = &["kv"];
/// And one that is streams.
#[cfg(test)]
pub(crate) const STREAMS_KEYS: &[&str] = &["streams"];
/// Keys of `kv`.
pub(crate) const KV_KEYS: &[&str] = &["bucket", "access"];
/// What `access` may be.
const ACCESS: &[&str] = &["read", "write"];

pub(crate) fn read(reader: &mut Reader<'_>, item: &Node, workload: &mut Workload) {
    if !matches!(item.value, Value::Map(_)) {
        match reader.word(item, WORDS) {
            Some("folder") => workload.state_folder = true,
            Some(_) => set_streams(reader, item, workload, Access::Write),
            None => {}
        }
        return;
    }
    let Some(fields) = reader.fields(item, item.at, KEYS) else {
        return;
    };
    if let Some(node) = fields.get("streams") {
        let access = match reader.word(node, ACCESS) {
            Some("read") => Access::Read,
            _ => Access::Write,
        };
        set_streams(reader, item, workload, access);
        if let Some((key, _)) = fields.entry("kv") {
            reader
                .error(key.at, "a bucket is an entry of its own")
                .help("for example `state: [{kv: carts}, streams]`");
        }
        return;
    }
    let Some(kv) = fields.required(reader, "kv", "kv: carts") else {
        return;
    };
    read_bucket(reader, kv, workload);
}

fn set_streams(reader: &mut Reader<'_>, item: &Node, workload: &mut Workload, access: Access) {
    if workload.streams.replace(access).is_some() {
        reader.error(item.at, "streams are listed twice");
    }
}

fn read_bucket(reader: &mut Reader<'_>, kv: &Node, workload: &mut Workload) {
    let (node, access) = if matches!(kv.value, Value::Map(_)) {
        let Some(fields) = reader.fields(kv, kv.at, KV_KEYS) else {
            return;
        };
        let access = fields.get("access");
        let access = access.and_then(|node| reader.word(node, ACCESS));
        let Some(node) = fields.required(reader, "bucket", "bucket: carts") else {
            return;
        };
        (node, access)
    } else {
        (kv, None)
    };
    let Some(text) = reader.string(node, "the name of a bucket") else {
        return;
    };
    let Some(name) = reader.name(node.at, &text) else {
        return;
    };
    let access = match access {
        Some("read") => Access::Read,
        _ => Access::Write,
    };
    if workload.buckets.insert(name, access).is_some() {
        let message = format!("the bucket `{}` is listed twice", shown(&text));
        reader.error(node.at, message);
    }
}

#[cfg(test)]
mod tests {
    use model::{Limits, keyvalue::Access};

    fn parse(state: &str) -> crate::Parsed {
        let run = "as: function, run: {wasm: {component: a.wasm}}";
        let text = format!("app: one\nworkloads:\n  it: {{{run}, state: {state}}}\n");
        crate::parse(&text, "tangelo.yaml", &Limits::default())
    }

    #[test]
    fn a_folder_and_buckets_stand_side_by_side() {
        let parsed = parse("[folder, {kv: carts}, {kv: {bucket: prices, access: read}}]");
        let app = parsed.app.expect("it has no mistakes");
        let workload = app.workloads.values().next().expect("there is one");
        assert!(workload.state_folder && workload.streams.is_none());
        let buckets = workload.buckets.iter();
        let buckets: Vec<_> = buckets.map(|(n, access)| (n.as_str(), *access)).collect();
        assert_eq!(
            buckets,
            [("carts", Access::Write), ("prices", Access::Read)]
        );
    }

    #[test]
    fn streams_are_used_or_only_read() {
        for (state, access) in [
            ("[streams]", Access::Write),
            ("[{streams: write}, folder]", Access::Write),
            ("[{kv: a}, {streams: read}]", Access::Read),
        ] {
            let app = parse(state).app.expect("it has no mistakes");
            let workload = app.workloads.values().next().expect("there is one");
            assert_eq!(workload.streams, Some(access), "{state}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (state, told) in [
            ("[foldr]", "`foldr` is not known here"),
            ("[{kvs: carts}]", "unknown key `kvs`"),
            ("[{kv: Carts}]", "`Carts` is not a name: "),
            ("[{kv: {bucket: a, acess: read}}]", "unknown key `acess`"),
            (
                "[{kv: {bucket: a, access: all}}]",
                "`all` is not known here",
            ),
            ("[{kv: {access: read}}]", "`bucket` is missing"),
            ("[{kv: a}, {kv: a}]", "the bucket `a` is listed twice"),
            ("[streams, {streams: read}]", "streams are listed twice"),
            ("[{streams: all}]", "`all` is not known here"),
            (
                "[{streams: read, kv: a}]",
                "a bucket is an entry of its own",
            ),
            (
                "{kv: a}",
                "expected a list of `folder`, `streams` and buckets",
            ),
        ] {
            let all = parse(state).diagnostics;
            let named = all.iter().any(|d| d.message.starts_with(told));
            assert!(named, "{state}: {all:#?}");
        }
    }
}
