//! `events`: how long the log keeps what the app publishes.

use model::Retention;

use crate::{
    reader::Reader,
    tree::{Bytes, Node},
};

/// Keys of `events`.
pub(crate) const KEYS: &[&str] = &["retention"];
/// Keys of `retention`.
pub(crate) const RETENTION_KEYS: &[&str] = &["time", "size"];

pub(crate) fn read(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> Option<Retention> {
    let fields = reader.fields(node, at, KEYS)?;
    let example = "retention: {time: 30d, size: 2GiB}";
    let node = fields.required(reader, "retention", example)?;
    let fields = reader.fields(node, node.at, RETENTION_KEYS)?;
    let (time, size) = (fields.get("time"), fields.get("size"));
    if time.is_none() && size.is_none() {
        reader
            .error(node.at, "`retention` says a `time`, a `size` or both")
            .help(format!("for example `{example}`"));
        return None;
    }
    let mut retention = Retention::default();
    if let Some(node) = time {
        let (least, most) = (Retention::LEAST_AGE, Retention::MOST_AGE);
        retention.age = reader.duration(node, least, most)?;
    }
    if let Some(node) = size {
        let (least, most) = (Retention::LEAST_BYTES, Retention::MOST_BYTES);
        retention.bytes = reader.size(node, least, most)?;
    }
    Some(retention)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::{ByteSize, Limits, Retention};

    fn parse(events: &str) -> crate::Parsed {
        let run = "as: function, run: {wasm: {component: a.wasm}}";
        let text = format!("app: one\nworkloads: {{it: {{{run}}}}}\nevents: {events}\n");
        crate::parse(&text, "tangelo.yaml", &Limits::default())
    }

    #[test]
    fn time_and_size_are_read_and_what_is_not_said_is_as_usual() {
        let kept = |events: &str| parse(events).app.expect("has no mistakes").retention;
        let (age, bytes) = (Duration::from_secs(30 * 86_400), ByteSize::mib(2048));
        assert_eq!(
            kept("{retention: {time: 30d, size: 2GiB}}"),
            Some(Retention { age, bytes })
        );
        let usual = Retention::default();
        assert_eq!(
            kept("{retention: {time: 30d}}"),
            Some(Retention { age, ..usual })
        );
        assert_eq!(
            kept("{retention: {size: 2GiB}}"),
            Some(Retention { bytes, ..usual })
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (events, told) in [
            ("{}", "`retention` is missing"),
            (
                "{retention: {}}",
                "`retention` says a `time`, a `size` or both",
            ),
            ("{retention: {age: 1d}}", "unknown key `age`"),
            ("{retention: 30d}", "expected a map with `time` or `size`"),
            ("{keep: 1d}", "unknown key `keep`"),
        ] {
            let all = parse(events).diagnostics;
            let named = all.iter().any(|d| d.message.starts_with(told));
            assert!(named, "{events}: {all:#?}");
        }
        assert!(parse("{retention: {time: 0s}}").app.is_none());
        assert!(parse("{retention: {size: 10}}").app.is_none());
    }
}
