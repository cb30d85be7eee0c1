//! `subscriptions`: events for those outside. Each becomes a workload that only events reach, so that whatever holds for
//! workloads (limits, order, pauses, traces, usage) holds for it, too.

use std::{net::IpAddr, time::Duration};

use model::{BreakerTerms, Name, Pulled, Run, Scale, Tier, Webhook, Workload};

use crate::{
    app::workload_name,
    places::{Draft, WorkloadPlaces},
    reader::{Fields, Reader, shown},
    subscriptions,
    tree::{Bytes, Key, Node, Value},
    workload::{assumed, check_variable, read_egress},
};

/// Keys of a subscription.
pub(crate) const KEYS: &[&str] = &[
    "event",
    "retry",
    "concurrency",
    "rate",
    "order",
    "batch",
    "input",
    "owner",
    "to",
];
/// Who may get events.
pub(crate) const TARGETS: &[&str] = &["webhook", "pull"];
/// Keys of `webhook`.
pub(crate) const WEBHOOK_KEYS: &[&str] = &["url", "secret", "timeout", "ca", "egress", "breaker"];
/// Keys of `pull`.
pub(crate) const PULL_KEYS: &[&str] = &["lease"];
/// What of these stands deeper than a subscription, and deeper than `to`.
const INNER: &[(&str, &[&str])] = &[("webhook", WEBHOOK_KEYS), ("pull", PULL_KEYS)];
/// Keys of `breaker`.
pub(crate) const BREAKER_KEYS: &[&str] = &["failures", "wait", "max_wait"];

/// How long somebody has to say what became of an event, unless said otherwise; and the longest.
const LEASE: Duration = Duration::from_secs(30);
const LONGEST_LEASE: Duration = Duration::from_secs(12 * 3600);
/// Most events of a subscription that are leased, unless `concurrency` says otherwise: they are held in memory.
const LEASED: u32 = 1_000;
/// How long an endpoint has to answer, unless said otherwise.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What the one subscription of such a workload is named.
fn events() -> Name {
    Name::literal("events")
}

pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    for (key, node) in reader.entries(node, "subscriptions by name") {
        let name = workload_name(reader, key);
        if draft.declared.contains(&key.text) {
            let message = format!("a workload is named `{}` already", shown(&key.text));
            reader
                .error(key.at, message)
                .help("workloads and subscriptions share their names");
        }
        let mut places = WorkloadPlaces {
            name: key.at,
            ..WorkloadPlaces::default()
        };
        let read = read_one(reader, key, node, &mut places);
        if let (Some(name), Some(mut workload)) = (name, read)
            && !draft.app.workloads.contains_key(&name)
        {
            workload.name = name.clone();
            draft.app.workloads.insert(name.clone(), workload);
            draft.workloads.insert(name, places);
        }
    }
}

fn read_one(
    reader: &mut Reader<'_>,
    key: &Key,
    node: &Node,
    places: &mut WorkloadPlaces,
) -> Option<Workload> {
    let fields = reader.fields_around(node, key.at, KEYS, INNER)?;
    let owner = fields
        .get("owner")
        .and_then(|node| reader.string(node, "the name of a team"));
    let example = "to: {webhook: {url: https://partner.example/events, secret: PARTNER_SECRET}}";
    let to = fields.required(reader, "to", example);
    let workload = to.and_then(|to| read_target(reader, to, places));
    let read = subscriptions::read_fields(reader, fields, key.at);
    let (mut subscription, _, event_at) = read?;
    subscription.name = events();
    places.on.push(event_at);
    let workload = workload?;
    if matches!(workload.run, Run::Pull(_)) {
        subscription.pulled = true;
        subscription.concurrency = Some(subscription.concurrency.unwrap_or(LEASED));
        if let Some((key, _)) = fields.entry("batch") {
            reader
                .error(key.at, "`batch` means nothing where events are pulled")
                .help("whoever pulls says how many they take at once: `?max=100`");
        }
    }
    Some(Workload {
        owner,
        on: vec![subscription],
        ..workload
    })
}

fn read_target(
    reader: &mut Reader<'_>,
    to: &Node,
    places: &mut WorkloadPlaces,
) -> Option<Workload> {
    if let Value::Text(text) = &to.value {
        let noted = reader.error(
            to.at,
            format!("`{}` is not who gets the events", shown(text)),
        );
        noted.help("those outside: `webhook: {url: …}` or `pull: {}`; a workload says itself what it reacts to, with `on`");
        return None;
    }
    let fields = reader.fields_around(to, to.at, TARGETS, INNER)?;
    match (fields.entry("webhook"), fields.entry("pull")) {
        (Some((key, node)), None) => read_webhook(reader, key.at, node, places),
        (None, Some((key, node))) => read_pull(reader, key.at, node),
        (found, _) => {
            let problem = match found {
                Some(_) => "`to` says two",
                None => "`to` says nobody",
            };
            let example = "webhook: {url: https://partner.example/events, secret: PARTNER_SECRET}";
            reader
                .error(to.at, problem)
                .help(format!("for example `{example}`, or `pull: {{}}`"));
            None
        }
    }
}

fn read_pull(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> Option<Workload> {
    let fields = reader.fields(node, at, PULL_KEYS)?;
    let lease = fields
        .get("lease")
        .and_then(|node| reader.duration(node, Duration::from_secs(1), LONGEST_LEASE));
    let lease = lease.unwrap_or(LEASE);
    let run = Run::Pull(Pulled { lease });
    Some(Workload {
        scale: Scale::by_requests(0, 1, 1, Duration::from_secs(600)),
        ..assumed(events(), Tier::Service, run, reader)
    })
}

fn read_webhook(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    places: &mut WorkloadPlaces,
) -> Option<Workload> {
    let fields = reader.fields(node, at, WEBHOOK_KEYS)?;
    let url = fields.required(reader, "url", "url: https://partner.example/events");
    let url = url.and_then(|node| Some((node.at, read_url(reader, node)?)));
    let secrets = fields
        .required(reader, "secret", "secret: PARTNER_SECRET")
        .map(|node| read_secrets(reader, node));
    let most = reader.limits().timeout;
    let timeout = fields
        .get("timeout")
        .and_then(|node| reader.duration(node, Duration::from_millis(1), most));
    let ca = fields.get("ca").and_then(|node| {
        let path = reader.file(node, "a file of certificates")?;
        places.files.push((path.clone(), node.at));
        Some(path)
    });
    let egress: Vec<_> = match fields.get("egress") {
        None => Vec::new(),
        Some(node) => {
            let hosts = reader.list(node, "hosts");
            let read = hosts.iter().filter_map(|host| read_egress(reader, host));
            read.collect()
        }
    };
    let breaker = read_breaker(reader, fields);
    let (at, url) = url?;
    if ca.is_some() && url.starts_with("http:") {
        let message = "`ca` means nothing without TLS";
        reader
            .error(at, message)
            .help("write the URL with `https://`");
    }
    check_inside(reader, at, &url, egress.is_empty());
    let secrets = secrets?;
    let run = Run::Webhook(Webhook {
        url,
        secrets: secrets.clone(),
        ca,
        breaker,
    });
    Some(Workload {
        scale: Scale::by_requests(0, 1, 64, Duration::from_secs(600)),
        timeout: timeout.unwrap_or(TIMEOUT),
        secrets,
        egress,
        ..assumed(events(), Tier::Service, run, reader)
    })
}

fn read_url(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let url = reader.url(node)?;
    if url.contains(['#', '{', '}']) {
        let message = format!("`{}` has a `#` or braces", shown(&url));
        reader
            .error(node.at, message)
            .help("an URL is sent as it stands, without a fragment and without variables");
    }
    Some(url)
}

/// An address that is written out is seen before anything is deployed; what a name leads to is seen at each connection.
fn check_inside(reader: &mut Reader<'_>, at: Bytes, url: &str, undeclared: bool) {
    let host = url.split("//").nth(1).unwrap_or_default();
    let host = host.split(['/', '?']).next().unwrap_or_default();
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let inside = match bare.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    };
    if inside && undeclared {
        let message = format!("`{bare}` is inside, where webhooks do not go");
        reader
            .error(at, message)
            .help(format!("if that is meant, say so: `egress: [\"{host}\"]`"));
    }
}

/// A name, or two while one is exchanged for the other.
pub(crate) fn read_secrets(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let names = match &node.value {
        Value::List(_) => reader.strings(node, "names of secrets"),
        _ => {
            let name = reader.string(node, "the name of a secret");
            let at = node.at;
            let named = name.map(|value| crate::scalars::At { at, value });
            named.into_iter().collect()
        }
    };
    for name in &names {
        check_variable(reader, name.at, &name.value);
    }
    if matches!(node.value, Value::List(_)) && !(1..=2).contains(&names.len()) {
        reader
            .error(
                node.at,
                "expected one secret, or two while they are exchanged",
            )
            .help("each is good; the old one goes when nobody uses it any more");
    }
    names.into_iter().map(|name| name.value).collect()
}

fn read_breaker(reader: &mut Reader<'_>, fields: Fields<'_>) -> BreakerTerms {
    let mut terms = BreakerTerms::default();
    let fields = fields.entry("breaker");
    let fields = fields.and_then(|(key, node)| reader.fields(node, key.at, BREAKER_KEYS));
    let Some(fields) = fields else {
        return terms;
    };
    let failures = fields.get("failures");
    let failures = failures.and_then(|node| reader.number(node, 1..=1_000));
    terms.failures = failures.unwrap_or(terms.failures);
    for (key, into) in [("wait", &mut terms.wait), ("max_wait", &mut terms.max_wait)] {
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(86_400));
        let read = fields.get(key);
        let read = read.and_then(|node| reader.duration(node, least, most));
        *into = read.unwrap_or(*into);
    }
    if terms.wait > terms.max_wait {
        if let Some(node) = fields.get("max_wait") {
            reader
                .error(node.at, "`max_wait` is shorter than `wait`")
                .help("it is open for `wait` at first, up to `max_wait` in the end");
        }
        terms.max_wait = terms.wait;
    }
    terms
}

#[cfg(test)]
mod tests {
    use model::Limits;

    use super::*;

    fn parsed(subscription: &str) -> crate::Parsed {
        let text = format!("app: one\nsubscriptions:\n  partner: {subscription}\n");
        crate::parse(&text, "tangelo.yaml", &Limits::default())
    }

    #[test]
    fn an_app_may_have_nothing_but_subscriptions() {
        let read = parsed(
            "{event: {type: [order.created]}, rate: 10/s, to: {webhook: {url: 'https://p.example/in?a=1', secret: [NEW, OLD], ca: p.pem, breaker: {failures: 3}}}}",
        );
        let app = read.app.unwrap_or_else(|| panic!("{:?}", read.diagnostics));
        let partner = &app.workloads["partner"];
        let Run::Webhook(webhook) = &partner.run else {
            panic!("{:?}", partner.run);
        };
        assert_eq!(webhook.url, "https://p.example/in?a=1");
        assert_eq!(
            (webhook.secrets.as_slice(), webhook.breaker.failures),
            (&["NEW".to_owned(), "OLD".to_owned()][..], 3)
        );
        assert_eq!(partner.on[0].name, events());
        assert!(partner.on[0].rate.is_some());
        let files: Vec<_> = read
            .artifacts
            .iter()
            .map(|file| file.path.as_str())
            .collect();
        assert_eq!(files, ["p.pem"]);
    }

    #[test]
    fn mistakes_are_named() {
        let webhook = |rest: &str| {
            format!("{{event: {{type: [a.b]}}, to: {{webhook: {{secret: S, {rest}}}}}}}")
        };
        for (what, told) in [
            (
                "{to: {webhook: {url: 'https://a.example', secret: S}}}".to_owned(),
                "`event` is missing",
            ),
            ("{event: {type: [a.b]}}".to_owned(), "`to` is missing"),
            (
                "{event: {type: [a.b]}, to: {pull: {}, webhook: {}}}".to_owned(),
                "`to` says two",
            ),
            (
                "{event: {type: [a.b]}, to: {pull: {lease: 1ms}}}".to_owned(),
                "`1ms` is out of range",
            ),
            (
                "{event: {type: [a.b]}, batch: {size: 2}, to: {pull: {}}}".to_owned(),
                "`batch` means nothing where events are pulled",
            ),
            (
                "{event: {type: [a.b]}, to: {}}".to_owned(),
                "`to` says nobody",
            ),
            (
                "{event: {type: [a.b]}, to: orders}".to_owned(),
                "`orders` is not who gets the events",
            ),
            (
                "{event: {type: [a.b]}, to: {web: {}}}".to_owned(),
                "unknown key `web`",
            ),
            (
                "{event: {type: [a.b]}, to: {webhook: {url: 'https://a.example'}}}".to_owned(),
                "`secret` is missing",
            ),
            (
                "{event: {type: [a.b]}, to: {webhook: {url: 'https://a.example', secret: []}}}"
                    .to_owned(),
                "expected one secret, or two while they are exchanged",
            ),
            (
                webhook("url: 'ftp://a.example'"),
                "`ftp://a.example` is not an URL",
            ),
            (
                webhook("url: 'https://a.example/#x'"),
                "`https://a.example/#x` has a `#` or braces",
            ),
            (
                webhook("url: 'http://10.0.0.5:8080/in'"),
                "`10.0.0.5` is inside, where webhooks do not go",
            ),
            (
                webhook("url: 'http://[::1]/in'"),
                "`::1` is inside, where webhooks do not go",
            ),
            (
                webhook("url: 'http://localhost:1'"),
                "`localhost` is inside, where webhooks do not go",
            ),
            (
                webhook("url: 'http://a.example', ca: p.pem"),
                "`ca` means nothing without TLS",
            ),
            (
                webhook("url: 'https://a.example', breaker: {wait: 1m, max_wait: 1s}"),
                "`max_wait` is shorter than `wait`",
            ),
            (
                webhook("url: 'https://a.example', breaker: {failures: 0}"),
                "0 is out of range",
            ),
            (
                webhook("url: 'https://a.example', redirects: 3"),
                "unknown key `redirects`",
            ),
        ] {
            let noted = parsed(&what).diagnostics;
            let all: Vec<_> = noted.into_iter().map(|d| d.message).collect();
            assert!(all.iter().any(|one| one == told), "{what}: {all:?}");
        }
    }

    #[test]
    fn what_stands_too_high_is_told_where_it_belongs() {
        let to = "webhook: {url: 'https://a.example', secret: S}";
        for what in [
            format!("{{event: {{type: [a.b]}}, egress: [a], to: {{{to}}}}}"),
            format!("{{event: {{type: [a.b]}}, to: {{{to}, egress: [a]}}}}"),
        ] {
            let noted = parsed(&what).diagnostics;
            let one = noted.iter().find(|d| d.message == "unknown key `egress`");
            let told = one.and_then(|d| d.expected.as_deref());
            assert_eq!(told, Some("it belongs inside `webhook`"), "{noted:?}");
        }
    }

    #[test]
    fn names_are_shared_with_workloads() {
        let text = "app: one\nworkloads: {partner: {as: service, run: {external: {url: 'http://x'}}}}\n\
             subscriptions: {partner: {event: {type: [a.b]}, to: {webhook: {url: 'https://a.example', secret: S}}}}\n";
        let told = crate::parse(text, "tangelo.yaml", &Limits::default()).diagnostics;
        assert!(
            told[0]
                .message
                .contains("a workload is named `partner` already"),
            "{told:?}"
        );
    }
}
