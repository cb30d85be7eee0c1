//! How a subscription is delivered: its rate, order by key, batches, what is handed over.

use std::{collections::BTreeMap, time::Duration};

use model::{
    AfterDead, Batch, InputSpec, Order, Rate,
    projection::{Projection, Switching},
};
use pattern::{Input, Path};

use crate::{
    reader::{Reader, shown},
    subscriptions::json,
    tree::{Bytes, Node},
};

/// Keys of `order`.
pub(crate) const ORDER_KEYS: &[&str] = &["key", "dead"];
/// Keys of `input`.
pub(crate) const INPUT_KEYS: &[&str] = &["path", "template", "paths", "constant"];
/// Keys of `projection`.
pub(crate) const PROJECTION_KEYS: &[&str] = &["switch"];
/// Keys of `batch`.
pub(crate) const BATCH_KEYS: &[&str] = &["size", "window"];

/// `10/s`.
pub(crate) fn rate(reader: &mut Reader<'_>, node: &Node) -> Option<Rate> {
    let text = reader.string(node, "a rate such as `10/s`")?;
    text.parse()
        .map_err(|expected| {
            reader
                .error(node.at, format!("`{}` is no rate", shown(&text)))
                .expected(format!("expected {expected}"));
        })
        .ok()
}

/// `{key: $.subject}`.
pub(crate) fn order(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> Option<Order> {
    let fields = reader.fields(node, at, ORDER_KEYS)?;
    let key = fields.required(reader, "key", "order: {key: $.subject}")?;
    let key = path(reader, key)?;
    let dead = match fields.get("dead") {
        None => AfterDead::default(),
        Some(node) => match reader.word(node, &["hold", "skip"])? {
            "skip" => AfterDead::Skip,
            _ => AfterDead::Hold,
        },
    };
    Some(Order { key, dead })
}

/// A path into the event's JSON.
pub(crate) fn path(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.string(node, "a path such as `$.subject`")?;
    match Path::parse(&text) {
        Ok(_) => Some(text),
        Err(problem) => {
            reader
                .error(node.at, format!("the path `{}` {problem}", shown(&text)))
                .help("paths lead into the event as JSON: `$.subject`, `$.data.order.id`, `$.data.items[0]`");
            None
        }
    }
}

/// `{path: $.data}`, `{constant: …}` or `{template: …, paths: {…}}`.
pub(crate) fn input(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> Option<InputSpec> {
    let fields = reader.fields(node, at, INPUT_KEYS)?;
    let given = [
        fields.entry("constant"),
        fields.entry("path"),
        fields.entry("template"),
    ];
    let mut given = given.into_iter().flatten();
    let (Some((key, value)), None) = (given.next(), given.next()) else {
        reader
            .error(at, "`input` has one of `path`, `template` and `constant`")
            .help("for example `input: {path: $.data}`");
        return None;
    };
    if key.text != "template"
        && let Some((key, _)) = fields.entry("paths")
    {
        reader.error(
            key.at,
            "`paths` are the variables of a `template`, and there is none",
        );
        return None;
    }
    let spec = match key.text.as_str() {
        "constant" => InputSpec::Constant(json(value)),
        "path" => InputSpec::Path(path(reader, value)?),
        _ => {
            let template = reader.string(value, "a text with `<variables>`")?;
            let mut paths = BTreeMap::new();
            if let Some(node) = fields.get("paths") {
                for (name, node) in reader.entries(node, "variables and their paths") {
                    paths.insert(name.text.clone(), path(reader, node)?);
                }
            }
            InputSpec::Template { paths, template }
        }
    };
    if let Err(problem) = Input::compile(&spec) {
        reader.error(value.at, problem);
        return None;
    }
    Some(spec)
}

/// `{}` or `{switch: manual}`.
pub(crate) fn projection(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> Option<Projection> {
    let fields = reader.fields(node, at, PROJECTION_KEYS)?;
    let switch = match fields.get("switch") {
        None => Switching::default(),
        Some(node) => match reader.word(node, &["auto", "manual"])? {
            "manual" => Switching::Manual,
            _ => Switching::Auto,
        },
    };
    Some(Projection { switch })
}

/// `{size: 100, window: 1s}`.
pub(crate) fn batch(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> Option<Batch> {
    let fields = reader.fields(node, at, BATCH_KEYS)?;
    let size = fields.required(reader, "size", "batch: {size: 100, window: 1s}")?;
    let size = reader.number(size, 2..=1_000)?;
    let window = match fields.get("window") {
        None => Duration::ZERO,
        Some(node) => reader.duration(node, Duration::ZERO, Duration::from_secs(300))?,
    };
    Some(Batch { size, window })
}
