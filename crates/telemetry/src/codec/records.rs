//! One span and one line, field by field. A new field goes behind a new format byte of the block.

use model::{InstanceId, InvocationId, Name, SpanId, Time, TraceId};
use uuid::Uuid;

use super::reader::{Reader, put_text, put_varint};
use crate::{
    log::{LogRecord, LogStream},
    span::{AttrValue, Attributes, Span, SpanKind},
};

const PARENT: u8 = 1;
const APP: u8 = 2;
const WORKLOAD: u8 = 4;
const INVOCATION: u8 = 8;
const ERROR: u8 = 16;
const LOCAL_ROOT: u8 = 32;
const TRACE: u8 = 64;

/// Appends a span.
pub(crate) fn put_span(out: &mut Vec<u8>, span: &Span) {
    out.push(
        flag(PARENT, span.parent.is_some())
            | flag(APP, span.app.is_some())
            | flag(WORKLOAD, span.workload.is_some())
            | flag(INVOCATION, span.invocation.is_some())
            | flag(ERROR, span.error.is_some())
            | flag(LOCAL_ROOT, span.local_root),
    );
    out.push(span.kind as u8);
    out.extend_from_slice(&span.trace.0.to_le_bytes());
    out.extend_from_slice(&span.id.0.to_le_bytes());
    if let Some(parent) = span.parent {
        out.extend_from_slice(&parent.0.to_le_bytes());
    }
    put_varint(out, span.start.0);
    put_varint(out, span.end.0.wrapping_sub(span.start.0));
    put_text(out, &span.name);
    put_name(out, span.app.as_ref());
    put_name(out, span.workload.as_ref());
    put_invocation(out, span.invocation);
    if let Some(error) = &span.error {
        put_text(out, error);
    }
    put_varint(out, span.attributes.iter().len() as u64);
    for (key, value) in span.attributes.iter() {
        put_text(out, key);
        put_value(out, value);
    }
}

/// Reads a span.
pub(crate) fn get_span(reader: &mut Reader<'_>) -> Option<Span> {
    let flags = reader.byte()?;
    let has = |flag: u8| flags & flag != 0;
    let kind = *SpanKind::ALL.get(usize::from(reader.byte()?))?;
    let trace = TraceId(u128::from_le_bytes(reader.array()?));
    let id = SpanId(u64::from_le_bytes(reader.array()?));
    let parent = when(has(PARENT), || {
        Some(SpanId(u64::from_le_bytes(reader.array()?)))
    })?;
    let start = Time(reader.varint()?);
    let end = Time(start.0.wrapping_add(reader.varint()?));
    Some(Span {
        trace,
        id,
        parent,
        kind,
        start,
        end,
        name: reader.text()?.to_owned().into(),
        app: when(has(APP), || get_name(reader))?,
        workload: when(has(WORKLOAD), || get_name(reader))?,
        invocation: when(has(INVOCATION), || get_invocation(reader))?,
        error: when(has(ERROR), || reader.text().map(str::to_owned))?,
        attributes: get_attributes(reader)?,
        local_root: has(LOCAL_ROOT),
    })
}

/// Appends a line.
pub(crate) fn put_log(out: &mut Vec<u8>, log: &LogRecord) {
    out.push(flag(INVOCATION, log.invocation.is_some()) | flag(TRACE, log.trace.is_some()));
    out.push(log.stream as u8);
    put_varint(out, log.time.0);
    put_name(out, Some(&log.app));
    put_name(out, Some(&log.workload));
    out.extend_from_slice(log.instance.0.as_bytes());
    put_invocation(out, log.invocation);
    if let Some(trace) = log.trace {
        out.extend_from_slice(&trace.0.to_le_bytes());
    }
    put_text(out, &log.text);
}

/// Reads a line.
pub(crate) fn get_log(reader: &mut Reader<'_>) -> Option<LogRecord> {
    let flags = reader.byte()?;
    let has = |flag: u8| flags & flag != 0;
    Some(LogRecord {
        stream: *LogStream::ALL.get(usize::from(reader.byte()?))?,
        time: Time(reader.varint()?),
        app: get_name(reader)?,
        workload: get_name(reader)?,
        instance: InstanceId(Uuid::from_bytes(reader.array()?)),
        invocation: when(has(INVOCATION), || get_invocation(reader))?,
        trace: when(has(TRACE), || {
            Some(TraceId(u128::from_le_bytes(reader.array()?)))
        })?,
        text: reader.text()?.to_owned(),
    })
}

const fn flag(flag: u8, set: bool) -> u8 {
    if set { flag } else { 0 }
}

/// `Some(None)` when there is nothing to read, `None` when what there is cannot be read.
fn when<T>(present: bool, read: impl FnOnce() -> Option<T>) -> Option<Option<T>> {
    if present {
        read().map(Some)
    } else {
        Some(None)
    }
}

fn put_name(out: &mut Vec<u8>, name: Option<&Name>) {
    if let Some(name) = name {
        put_text(out, name.as_str());
    }
}

fn get_name(reader: &mut Reader<'_>) -> Option<Name> {
    Name::new(reader.text()?).ok()
}

fn put_invocation(out: &mut Vec<u8>, id: Option<InvocationId>) {
    if let Some(id) = id {
        out.extend_from_slice(id.0.as_bytes());
    }
}

fn get_invocation(reader: &mut Reader<'_>) -> Option<InvocationId> {
    Some(InvocationId(Uuid::from_bytes(reader.array()?)))
}

fn put_value(out: &mut Vec<u8>, value: &AttrValue) {
    match value {
        AttrValue::Bool(truth) => out.push(u8::from(*truth)),
        AttrValue::Int(number) => {
            out.push(2);
            put_varint(out, number.cast_unsigned());
        }
        AttrValue::Float(number) => {
            out.push(3);
            out.extend_from_slice(&number.to_le_bytes());
        }
        AttrValue::Text(text) => {
            out.push(4);
            put_text(out, text);
        }
    }
}

fn get_attributes(reader: &mut Reader<'_>) -> Option<Attributes> {
    let mut all = Attributes::default();
    for _ in 0..reader.varint()? {
        let key = reader.text()?.to_owned();
        let value = match reader.byte()? {
            0 => AttrValue::Bool(false),
            1 => AttrValue::Bool(true),
            2 => AttrValue::Int(reader.varint()?.cast_signed()),
            3 => AttrValue::Float(f64::from_le_bytes(reader.array()?)),
            4 => AttrValue::from(reader.text()?.to_owned()),
            _ => return None,
        };
        all.push(key, value);
    }
    Some(all)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_name() -> impl Strategy<Value = Name> {
        "[a-z][a-z0-9]{0,20}".prop_map(|text| Name::new(&text).expect("matches the rules"))
    }

    fn any_value() -> impl Strategy<Value = AttrValue> {
        prop_oneof![
            any::<bool>().prop_map(AttrValue::Bool),
            any::<i64>().prop_map(AttrValue::Int),
            (-1e300..1e300f64).prop_map(AttrValue::Float),
            any::<String>().prop_map(AttrValue::from),
        ]
    }

    pub(in crate::codec) fn any_span() -> impl Strategy<Value = Span> {
        let ids = (1..u128::MAX, 1..u64::MAX, any::<Option<u64>>(), 0..5usize);
        let times = (any::<u64>(), any::<u64>());
        let who = (
            proptest::option::of(any_name()),
            proptest::option::of(any_name()),
            any::<Option<u128>>(),
        );
        let more = (
            any::<String>(),
            any::<Option<String>>(),
            proptest::collection::vec((any::<String>(), any_value()), 0..6),
            any::<bool>(),
        );
        (ids, times, who, more).prop_map(|(ids, times, who, more)| Span {
            trace: TraceId(ids.0),
            id: SpanId(ids.1),
            parent: ids.2.map(SpanId),
            kind: SpanKind::ALL[ids.3],
            start: Time(times.0),
            end: Time(times.1),
            app: who.0,
            workload: who.1,
            invocation: who.2.map(|id| InvocationId(Uuid::from_u128(id))),
            name: more.0.into(),
            error: more.1,
            attributes: more.2.into(),
            local_root: more.3,
        })
    }

    pub(in crate::codec) fn any_log() -> impl Strategy<Value = LogRecord> {
        let who = (any_name(), any_name(), any::<u128>());
        let what = (any::<u64>(), 0..3usize, any::<String>());
        let within = (any::<Option<u128>>(), any::<Option<u128>>());
        (who, what, within).prop_map(|(who, what, within)| LogRecord {
            time: Time(what.0),
            app: who.0,
            workload: who.1,
            instance: InstanceId(Uuid::from_u128(who.2)),
            invocation: within.0.map(|id| InvocationId(Uuid::from_u128(id))),
            trace: within.1.map(TraceId),
            stream: LogStream::ALL[what.1],
            text: what.2,
        })
    }

    proptest! {
        #[test]
        fn json_round_trips_as_well(span in any_span(), log in any_log()) {
            // A zero id is no id in JSON, and floats come back within their precision: leave both out.
            prop_assume!(span.parent != Some(SpanId(0)) && log.trace != Some(TraceId(0)));
            let keys: std::collections::HashSet<_> = span.attributes.iter().map(|(k, _)| k).collect();
            prop_assume!(keys.len() == span.attributes.iter().len());
            prop_assume!(!span.attributes.iter().any(|(_, v)| matches!(v, AttrValue::Float(_))));
            let json = serde_json::to_string(&span).expect("serializes");
            prop_assert_eq!(serde_json::from_str::<Span>(&json).expect("reads"), span);
            let json = serde_json::to_string(&log).expect("serializes");
            prop_assert_eq!(serde_json::from_str::<LogRecord>(&json).expect("reads"), log);
        }
    }
}
