//! `keys`: what those outside may do with the bus of the app.

use model::{AccessKey, Name, Run};

use crate::{
    outside::read_secrets,
    places::Draft,
    reader::Reader,
    tree::{Bytes, Node},
    workload::read_types,
};

/// Keys of a key.
pub(crate) const KEYS: &[&str] = &["secret", "publishes", "pulls"];

pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    for (key, node) in reader.entries(node, "keys by name") {
        let name = reader.name(key.at, &key.text);
        let read = read_one(reader, key.at, node, draft);
        if let (Some(name), Some(read)) = (name, read) {
            draft.app.keys.insert(name, read);
        }
    }
}

fn read_one(reader: &mut Reader<'_>, at: Bytes, node: &Node, draft: &Draft) -> Option<AccessKey> {
    let fields = reader.fields(node, at, KEYS)?;
    let secrets = fields
        .required(reader, "secret", "secret: PARTNER_KEY")
        .map(|node| read_secrets(reader, node));
    let publishes = fields
        .get("publishes")
        .map_or_else(Vec::new, |node| read_types(reader, node));
    let pulls = fields
        .get("pulls")
        .map_or_else(Vec::new, |node| read_pulls(reader, node, draft));
    if fields.get("publishes").is_none() && fields.get("pulls").is_none() {
        reader
            .error(at, "this key opens nothing")
            .help("`publishes: [order.*]` and `pulls: [NAME]` say what for");
    }
    Some(AccessKey {
        secrets: secrets?,
        publishes,
        pulls,
    })
}

fn read_pulls(reader: &mut Reader<'_>, node: &Node, draft: &Draft) -> Vec<Name> {
    let pulled = |name: &str| {
        let found = draft.app.workloads.get(name);
        found.is_some_and(|workload| matches!(workload.run, Run::Pull(_)))
    };
    let mut names = Vec::new();
    for name in reader.strings(node, "subscriptions") {
        if !pulled(&name.value) {
            let all = draft.app.workloads.keys().map(Name::as_str);
            let known: Vec<&str> = all.filter(|name| pulled(name)).collect();
            let message = format!("no subscription `{}` is pulled", name.value);
            reader.unknown_word(name.at, message, &name.value, known.into_iter());
        }
        names.extend(reader.name(name.at, &name.value));
    }
    names
}

#[cfg(test)]
mod tests {
    use model::{Limits, Name};

    fn parsed(key: &str) -> crate::Parsed {
        let text = format!(
            "app: one\nsubscriptions:\n  depot: {{event: {{type: [a.b]}}, to: {{pull: {{lease: 5s}}}}}}\nkeys:\n  it: {key}\n"
        );
        crate::parse(&text, "tangelo.yaml", &Limits::default())
    }

    #[test]
    fn keys_are_read_and_what_they_publish_is_published() {
        let read = parsed("{secret: K, publishes: [a.*], pulls: [depot]}");
        assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
        let app = read.app.expect("is one");
        let key = &app.keys["it"];
        assert_eq!(key.pulls, [Name::literal("depot")]);
        assert!(app.workloads["depot"].on[0].pulled);
    }

    #[test]
    fn mistakes_are_named() {
        for (what, told) in [
            ("{publishes: [a.b]}", "`secret` is missing"),
            ("{secret: K}", "this key opens nothing"),
            (
                "{secret: K, pulls: [depots]}",
                "no subscription `depots` is pulled",
            ),
            (
                "{secret: K, publishes: ['*.b']}",
                "`*.b` has a `*` before its end",
            ),
            (
                "{secret: 'no name', publishes: [a.b]}",
                "`no name` is not the name of a variable",
            ),
            ("{secret: K, publish: [a.b]}", "unknown key `publish`"),
        ] {
            let noted = parsed(what).diagnostics;
            let all: Vec<_> = noted.into_iter().map(|d| d.message).collect();
            assert!(all.iter().any(|one| one == told), "{what}: {all:?}");
        }
    }
}
