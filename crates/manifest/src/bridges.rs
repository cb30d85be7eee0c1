//! `bridges`: topics of other people's brokers that are read into the log, and subscriptions that are written to them. Each
//! bridge becomes a workload that only events reach.

use std::time::Duration;

use model::{
    Batch, Kafka, KafkaLogin, KafkaMechanism, KafkaMode, KafkaTls, KafkaWay, Name, RetryPolicy,
    Run, Scale, Subscription, Tier, Workload, name::MAX_NAME,
};

use crate::{
    app::workload_name,
    paths::{is_host, split_port},
    places::{Draft, WorkloadPlaces},
    reader::{Fields, Reader, shown},
    subscriptions, terms,
    tree::{Bytes, Node},
    workload::{assumed, read_types},
};

/// Keys of a bridge.
pub(crate) const KEYS: &[&str] = &["kafka", "owner"];
/// Keys of `kafka`.
pub(crate) const KAFKA_KEYS: &[&str] = &["brokers", "tls", "login", "in", "out"];
/// Keys of `tls`.
pub(crate) const TLS_KEYS: &[&str] = &["ca"];
/// Keys of `login`.
pub(crate) const LOGIN_KEYS: &[&str] = &["mechanism", "user", "password"];
/// Keys of what comes in.
pub(crate) const IN_KEYS: &[&str] = &["topic", "type", "publishes", "from"];
/// Keys of what goes out.
pub(crate) const OUT_KEYS: &[&str] = &["name", "event", "topic", "key", "mode", "max_age", "rate"];

/// Events that are written with one request to each partition.
const TOGETHER: u32 = 200;
/// The longest that an event may be let wait, if not for ever.
const LONGEST_AGE: Duration = Duration::from_secs(366 * 86_400);

pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    for (key, node) in reader.entries(node, "bridges by name") {
        let name = workload_name(reader, key);
        let taken = draft.declared.contains(&key.text)
            || name
                .as_ref()
                .is_some_and(|name| draft.app.workloads.contains_key(name));
        if taken {
            let message = format!(
                "a workload or subscription is named `{}` already",
                shown(&key.text)
            );
            reader
                .error(key.at, message)
                .help("workloads, subscriptions and bridges share their names");
        }
        let mut places = WorkloadPlaces {
            name: key.at,
            ..WorkloadPlaces::default()
        };
        let read = read_one(reader, key.at, node, &mut places);
        if let (Some(name), Some(mut workload), false) = (name, read, taken) {
            workload.name = name.clone();
            draft.app.workloads.insert(name.clone(), workload);
            draft.workloads.insert(name, places);
        }
    }
}

fn read_one(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    places: &mut WorkloadPlaces,
) -> Option<Workload> {
    let fields = reader.fields(node, at, KEYS)?;
    let owner = fields
        .get("owner")
        .and_then(|node| reader.string(node, "the name of a team"));
    let example = "kafka: {brokers: [kafka:9092], in: [{topic: payments, type: payment.received}]}";
    let kafka = fields.required(reader, "kafka", example)?;
    let fields = reader.fields(kafka, kafka.at, KAFKA_KEYS)?;
    let brokers = fields
        .required(reader, "brokers", "brokers: [kafka:9092]")
        .map(|node| read_brokers(reader, node));
    let tls = fields.get("tls").map(|node| read_tls(reader, node, places));
    let login = fields
        .entry("login")
        .map(|(key, node)| read_login(reader, key.at, node, tls.is_some()));
    let (mut ways, mut publishes) = (Vec::new(), Vec::new());
    let mut on: Vec<Subscription> = Vec::new();
    for node in fields
        .get("in")
        .map_or(&[][..], |node| reader.list(node, "topics"))
    {
        if let Some(way) = read_in(reader, node) {
            if let KafkaWay::In { types, .. } = &way {
                publishes.extend(types.iter().cloned());
            }
            once(reader, node.at, &ways, &way);
            ways.push(way);
        }
    }
    for node in fields
        .get("out")
        .map_or(&[][..], |node| reader.list(node, "topics"))
    {
        if let Some((way, subscription, event_at)) = read_out(reader, node) {
            once(reader, node.at, &ways, &way);
            if on.iter().any(|other| other.name == subscription.name) {
                let name = &subscription.name;
                let message = format!("two topics of this bridge are subscriptions named `{name}`");
                reader
                    .error(node.at, message)
                    .help("say `name: …` at one of them");
            }
            ways.push(way);
            on.push(subscription);
            places.on.push(event_at);
        }
    }
    if fields.get("in").is_none() && fields.get("out").is_none() {
        reader
            .error(kafka.at, "this bridge leads nowhere")
            .help("`in` names topics that are read, `out` those that are written");
    }
    // What is there and could not be read was told of.
    let login = match login {
        None => None,
        Some(read) => Some(read?),
    };
    let tls = match tls {
        None => None,
        Some(read) => Some(read?),
    };
    let secrets: Vec<String> = login.iter().map(|login| login.password.clone()).collect();
    let run = Run::Kafka(Kafka {
        brokers: brokers?,
        tls,
        login,
        ways,
    });
    let name = Name::literal("bridge");
    Some(Workload {
        scale: Scale::by_requests(0, 1, 1, std::time::Duration::from_secs(600)),
        owner,
        on,
        publishes,
        secrets,
        ..assumed(name, Tier::Service, run, reader)
    })
}

/// A topic is read or written, and once: what is written there would come back.
fn once(reader: &mut Reader<'_>, at: Bytes, ways: &[KafkaWay], way: &KafkaWay) {
    if ways.iter().any(|other| other.topic() == way.topic()) {
        let message = format!("`{}` is in this bridge already", shown(way.topic()));
        reader
            .error(at, message)
            .help("a topic is either read or written, and by one entry: patterns have `$or`");
    }
}

/// `tls: {}` with whom the machine trusts, `tls: {ca: FILE}` with others.
fn read_tls(reader: &mut Reader<'_>, node: &Node, places: &mut WorkloadPlaces) -> Option<KafkaTls> {
    let fields = reader.fields(node, node.at, TLS_KEYS)?;
    let ca = match fields.get("ca") {
        None => None,
        Some(node) => {
            let path = reader.file(node, "a file of certificates")?;
            places.files.push((path.clone(), node.at));
            Some(path)
        }
    };
    Some(KafkaTls { ca })
}

fn read_login(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    has_tls: bool,
) -> Option<KafkaLogin> {
    let fields = reader.fields(node, at, LOGIN_KEYS)?;
    let example = "login: {mechanism: scram-sha-512, user: tangelo, password: KAFKA_PASSWORD}";
    let mechanism = fields.required(reader, "mechanism", example);
    let words = ["plain", "scram-sha-256", "scram-sha-512"];
    let mechanism = mechanism.and_then(|node| reader.word(node, &words));
    let user = fields.required(reader, "user", example);
    let user = user.and_then(|node| reader.string(node, "a name"));
    let password = fields.required(reader, "password", example)?;
    let password = reader.secret(password, "password", "KAFKA_PASSWORD")?;
    let mechanism = match mechanism? {
        "plain" => KafkaMechanism::Plain,
        "scram-sha-256" => KafkaMechanism::ScramSha256,
        _ => KafkaMechanism::ScramSha512,
    };
    if mechanism == KafkaMechanism::Plain && !has_tls {
        reader
            .warning(at, "`plain` sends the password in clear")
            .help("add `tls: {}`, or use `scram-sha-256` or `scram-sha-512`");
    }
    Some(KafkaLogin {
        mechanism,
        user: user?,
        password,
    })
}

fn read_brokers(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let brokers = reader.strings(node, "brokers");
    if brokers.is_empty() {
        reader.error(node.at, "at least one broker is needed");
    }
    let mut read = Vec::new();
    for broker in brokers {
        let split = split_port(&broker.value);
        let sound = split
            .is_some_and(|(host, port)| port.is_some() && is_host(host.trim_matches(['[', ']'])));
        if !sound {
            let message = format!("`{}` is not a broker", shown(&broker.value));
            reader.error(broker.at, message).help("`host:port`");
        }
        read.push(broker.value);
    }
    read
}

/// A name that Kafka takes for a topic.
fn topic(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<String> {
    let node = fields.required(reader, "topic", "topic: payments")?;
    let topic = reader.string(node, "the name of a topic")?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if topic.len() > 249 || !topic.bytes().all(good) || topic == "." || topic == ".." {
        let message = format!("`{}` is no name of a topic", shown(&topic));
        reader
            .error(node.at, message)
            .help("1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`");
    }
    Some(topic)
}

fn read_in(reader: &mut Reader<'_>, node: &Node) -> Option<KafkaWay> {
    let fields = reader.fields(node, node.at, IN_KEYS)?;
    let topic = topic(reader, fields);
    let kind = fields
        .get("type")
        .and_then(|node| reader.string(node, "an event type"));
    let mut types = fields
        .get("publishes")
        .map_or_else(Vec::new, |node| read_types(reader, node));
    types.extend(kind.clone());
    if fields.get("type").is_none() && fields.get("publishes").is_none() {
        reader
            .error(node.at, "it is not said which events come from here")
            .help("`type` for records that are no CloudEvents, `publishes` for those that are");
    }
    let all = match fields.get("from") {
        None => false,
        Some(node) => reader.word(node, &["earliest", "latest"])? == "earliest",
    };
    Some(KafkaWay::In {
        topic: topic?,
        kind,
        types,
        all,
    })
}

fn read_out(reader: &mut Reader<'_>, node: &Node) -> Option<(KafkaWay, Subscription, Bytes)> {
    let fields = reader.fields(node, node.at, OUT_KEYS)?;
    let topic = topic(reader, fields);
    let key = match fields.get("key") {
        None => None,
        Some(node) => Some(terms::path(reader, node)?),
    };
    let mode = match fields.get("mode") {
        None => "binary",
        Some(node) => reader.word(node, &["binary", "structured"])?,
    };
    let age = fields
        .get("max_age")
        .map(|node| reader.duration(node, Duration::from_secs(1), LONGEST_AGE));
    let read = subscriptions::read_fields(reader, fields, node.at);
    let (mut subscription, _, event_at) = read?;
    let topic = topic?;
    if fields.get("name").is_none() {
        subscription.name = subscriptions::name_of(&topic, MAX_NAME);
    }
    // The cluster is waited for; nothing is tried at something else.
    subscription.retry = RetryPolicy::endless();
    if let Some(age) = age {
        subscription.retry.max_age = age?;
    }
    (subscription.pulled, subscription.serial) = (true, true);
    subscription.batch = Some(Batch {
        size: TOGETHER,
        window: Duration::ZERO,
    });
    let way = KafkaWay::Out {
        topic,
        subscription: subscription.name.clone(),
        key,
        mode: match mode {
            "structured" => KafkaMode::Structured,
            _ => KafkaMode::Binary,
        },
    };
    Some((way, subscription, event_at))
}

#[cfg(test)]
mod tests {
    use model::{Limits, Run};

    fn parsed(kafka: &str) -> crate::Parsed {
        let text = format!("app: one\nbridges:\n  legacy: {{kafka: {kafka}}}\n");
        crate::parse(&text, "tangelo.yaml", &Limits::default())
    }

    #[test]
    fn bridges_are_read() {
        let read = parsed(
            "{brokers: ['k-1:9092', 'k-2:9092'], in: [{topic: pay.ments, type: payment.received, from: earliest}], out: [{event: {type: [payment.received]}, topic: Orders_1, key: $.data.id}]}",
        );
        let app = read.app.unwrap_or_else(|| panic!("{:?}", read.diagnostics));
        let bridge = &app.workloads["legacy"];
        let Run::Kafka(kafka) = &bridge.run else {
            panic!("{:?}", bridge.run);
        };
        assert_eq!((kafka.brokers.len(), kafka.ways.len()), (2, 2));
        assert_eq!(bridge.publishes, ["payment.received"]);
        assert_eq!(bridge.on[0].name.as_str(), "orders-1");
        assert!(bridge.on[0].pulled && bridge.on[0].is_serial());
        assert_eq!(bridge.on[0].retry, model::RetryPolicy::endless());
    }

    #[test]
    fn logins_name_secrets_and_certificates_are_files() {
        let read = parsed(
            "{brokers: ['k:9092'], tls: {ca: kafka.pem}, login: {mechanism: scram-sha-512, user: tangelo, password: KAFKA_PASSWORD}, out: [{name: all, event: {type: [a.b]}, topic: t, mode: structured, max_age: 2d}]}",
        );
        let app = read.app.unwrap_or_else(|| panic!("{:?}", read.diagnostics));
        let bridge = &app.workloads["legacy"];
        assert_eq!(bridge.secrets, ["KAFKA_PASSWORD"]);
        assert_eq!(bridge.on[0].name.as_str(), "all");
        assert_eq!(bridge.on[0].retry.max_age.as_secs(), 2 * 86_400);
        let files = read.artifacts.iter().map(|file| file.path.as_str());
        assert_eq!(files.collect::<Vec<_>>(), ["kafka.pem"]);
    }

    #[test]
    fn mistakes_are_named() {
        let with = |rest: &str| format!("{{brokers: ['k:9092'], {rest}}}");
        for (what, told) in [
            ("{in: []}".to_owned(), "`brokers` is missing"),
            (
                "{brokers: ['k:9092']}".to_owned(),
                "this bridge leads nowhere",
            ),
            ("{brokers: [k], in: []}".to_owned(), "`k` is not a broker"),
            (
                "{brokers: [], in: []}".to_owned(),
                "at least one broker is needed",
            ),
            (with("in: [{type: a.b}]"), "`topic` is missing"),
            (
                with("in: [{topic: t}]"),
                "it is not said which events come from here",
            ),
            (
                with("in: [{topic: 'a b', type: a.b}]"),
                "`a b` is no name of a topic",
            ),
            (
                with("in: [{topic: t, type: a.b, from: soon}]"),
                "`soon` is not known here",
            ),
            (
                with("in: [{topic: t, type: a.b}], out: [{event: {type: [a.b]}, topic: t}]"),
                "`t` is in this bridge already",
            ),
            (with("out: [{topic: t}]"), "`event` is missing"),
            (
                with("out: [{event: {type: [a.b]}, topic: t, key: subject}]"),
                "the path `subject`",
            ),
            (
                with("out: [{event: {type: [a.b]}, topic: t, concurrency: 2}]"),
                "unknown key `concurrency`",
            ),
            (
                with(
                    "out: [{event: {type: [a.b]}, topic: t.t}, {event: {type: [a.b]}, topic: t_t}]",
                ),
                "two topics of this bridge are subscriptions named `t-t`",
            ),
            (
                with("in: [], login: {mechanism: gssapi, user: u, password: P}"),
                "`gssapi` is not known here",
            ),
            (
                with("in: [], login: {mechanism: plain, user: u}"),
                "`password` is missing",
            ),
            (
                with("in: [], login: {mechanism: plain, user: u, password: P}"),
                "`plain` sends the password in clear",
            ),
            (with("in: [], tls: {cert: a}"), "unknown key `cert`"),
        ] {
            let noted = parsed(&what).diagnostics;
            let all: Vec<_> = noted.into_iter().map(|d| d.message).collect();
            assert!(all.iter().any(|one| one.contains(told)), "{what}: {all:?}");
        }
    }
}
