//! The table of routes: what wins is written down as tables, and checked against a matcher that tries every route.

use gateway::routes::{Entry, Found, Path, Pattern, Segment, Table};
use http::Method;
use proptest::prelude::*;

fn entry(host: &str, methods: &str, path: &str) -> Entry<String> {
    Entry {
        host: (!host.is_empty()).then(|| host.to_owned()),
        pattern: Pattern::new(path).expect("a test's pattern is one"),
        methods: methods
            .split_whitespace()
            .map(|m| m.parse().expect("is a method"))
            .collect(),
        value: format!("{host}|{methods}|{path}"),
    }
}

fn table(routes: &[(&str, &str, &str)]) -> Table<String> {
    let (table, duplicates) = Table::build(
        routes
            .iter()
            .map(|(host, methods, path)| entry(host, methods, path)),
    );
    assert_eq!(duplicates, []);
    table
}

fn find<'t>(table: &'t Table<String>, host: &str, method: &str, path: &str) -> Found<'t, String> {
    let method = method.parse::<Method>().expect("is a method");
    table.find(
        host,
        &method,
        &Path::check(path).expect("a test's path is one"),
    )
}

#[track_caller]
fn check(table: &Table<String>, request: &str, expected: &str) {
    let mut words = request.split(' ');
    let (method, host, path) = (words.next(), words.next(), words.next());
    let found = find(
        table,
        host.unwrap_or_default(),
        method.unwrap_or_default(),
        path.unwrap_or_default(),
    );
    let said = match found {
        Found::Route(value) => value.clone(),
        Found::OtherMethods(methods) => {
            format!(
                "allow {}",
                methods
                    .iter()
                    .map(Method::as_str)
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
        Found::Nothing => "nothing".to_owned(),
    };
    assert_eq!(said, expected, "{request}");
}

#[test]
fn the_most_specific_path_wins() {
    let table = table(&[
        ("", "", "/*"),
        ("", "", "/api/*"),
        ("", "", "/api/orders"),
        ("", "", "/api/{kind}"),
        ("", "", "/api/{kind}/*"),
        ("", "", "/api/orders/{id}/lines"),
        ("", "", "/api/{kind}/latest"),
    ]);
    for (path, route) in [
        ("/", "/*"),
        ("/x/y", "/*"),
        ("/api", "/api/*"),
        ("/api/", "/api/*"),
        ("/api/orders", "/api/orders"),
        ("/api/%6frders", "/api/orders"),
        ("/api/users", "/api/{kind}"),
        ("/api/orders/", "/api/{kind}/*"),
        ("/api/orders/7", "/api/{kind}/*"),
        ("/api/orders/7/lines", "/api/orders/{id}/lines"),
        ("/api/orders/latest", "/api/{kind}/latest"),
        ("/api/a%2Fb", "/api/{kind}"),
        ("/API/orders", "/*"),
    ] {
        check(&table, &format!("GET h {path}"), &format!("||{route}"));
    }
}

#[test]
fn the_most_specific_host_wins_and_falls_back() {
    let table = table(&[
        ("", "", "/*"),
        ("*.example.com", "", "/*"),
        ("*.eu.example.com", "", "/eu/*"),
        ("shop.example.com", "", "/shop"),
    ]);
    for (host, path, route) in [
        ("shop.example.com", "/shop", "shop.example.com||/shop"),
        ("SHOP.example.com.", "/shop", "shop.example.com||/shop"),
        ("shop.example.com", "/other", "*.example.com||/*"),
        ("a.b.example.com", "/", "*.example.com||/*"),
        ("a.eu.example.com", "/eu/x", "*.eu.example.com||/eu/*"),
        ("a.eu.example.com", "/us", "*.example.com||/*"),
        ("example.com", "/", "||/*"),
        (".example.com", "/", "||/*"),
        ("badexample.com", "/", "||/*"),
        ("127.0.0.1", "/", "||/*"),
    ] {
        check(&table, &format!("GET {host} {path}"), route);
    }
}

#[test]
fn methods_choose_among_routes_of_a_path() {
    let table = table(&[
        ("", "GET", "/a"),
        ("", "POST PUT", "/a"),
        ("", "", "/b"),
        ("", "GET", "/b"),
        ("", "OPTIONS", "/c"),
        ("", "GET", "/d/x"),
        ("", "DELETE", "/d/{id}"),
    ]);
    for (request, expected) in [
        ("GET h /a", "|GET|/a"),
        ("HEAD h /a", "|GET|/a"),
        ("PUT h /a", "|POST PUT|/a"),
        ("DELETE h /a", "allow GET HEAD OPTIONS POST PUT"),
        ("OPTIONS h /a", "allow GET HEAD OPTIONS POST PUT"),
        ("OPTIONS h /b", "||/b"),
        ("HEAD h /b", "|GET|/b"),
        ("PATCH h /b", "||/b"),
        ("OPTIONS h /c", "|OPTIONS|/c"),
        ("GET h /c", "allow OPTIONS"),
        ("DELETE h /d/x", "|DELETE|/d/{id}"),
        ("POST h /d/x", "allow DELETE GET HEAD OPTIONS"),
        ("GET h /nowhere", "nothing"),
    ] {
        check(&table, request, expected);
    }
}

#[test]
fn the_first_keeps_the_place_and_the_list_says_so() {
    let routes = [
        entry("", "GET", "/a/{x}"),
        entry("", "GET POST", "/a/{y}"),
        entry("", "", "/a/{x}"),
        entry("*", "", "/a/{z}"),
        entry("h", "GET", "/a/{x}"),
    ];
    let (table, duplicates) = Table::build(routes);
    let said: Vec<_> = duplicates
        .iter()
        .map(|d| (d.entry, d.first, d.method.clone()))
        .collect();
    assert_eq!(said, [(1, 0, Some(Method::GET)), (3, 2, None)]);
    check(&table, "GET x /a/1", "|GET|/a/{x}");
    check(&table, "POST x /a/1", "|GET POST|/a/{y}");
    check(&table, "DELETE x /a/1", "||/a/{x}");
}

#[test]
fn ten_thousand_routes_are_found_like_ten() {
    let paths: Vec<_> = (0..10_000)
        .map(|n| format!("/app-{}/r{n}/{{id}}", n % 97))
        .collect();
    let routes: Vec<_> = paths.iter().map(|path| ("", "", path.as_str())).collect();
    let table = table(&routes);
    for n in [0, 1, 96, 97, 5_000, 9_999] {
        check(
            &table,
            &format!("GET h /app-{}/r{n}/x", n % 97),
            &format!("||/app-{}/r{n}/{{id}}", n % 97),
        );
        check(
            &table,
            &format!("GET h /app-{}/r{n}/x", (n + 1) % 97),
            "nothing",
        );
    }
}

/// Rank by segment, the less the more specific; what a route of this rank loses to is what has a smaller one.
fn rank(host: &str, pattern: &Pattern) -> (usize, Vec<u8>) {
    let host_rank = match host.strip_prefix("*.") {
        Some(suffix) => 1000 - suffix.len(),
        None if host.is_empty() => 2000,
        None => 0,
    };
    let mut path: Vec<u8> = pattern
        .segments
        .iter()
        .map(|s| u8::from(matches!(s, Segment::Parameter(_))))
        .collect();
    path.push(if pattern.wildcard { 2 } else { 0 });
    (host_rank, path)
}

fn host_matches(rule: &str, host: &str) -> bool {
    match rule.strip_prefix("*.") {
        Some(suffix) => host
            .strip_suffix(suffix)
            .is_some_and(|label| label.len() > 1 && label.ends_with('.')),
        None => rule.is_empty() || rule == host,
    }
}

fn takes(route: &Entry<String>, method: &Method) -> bool {
    let lists = |m: &Method| route.methods.contains(m);
    route.methods.is_empty() || lists(method) || (*method == Method::HEAD && lists(&Method::GET))
}

/// How well a route that takes `method` fits it: listed, HEAD by GET, or all methods.
fn method_rank(route: &Entry<String>, method: &Method) -> u8 {
    match route.methods.as_slice() {
        [] => 2,
        listed if listed.contains(method) => 0,
        _ => 1,
    }
}

/// Tries every route: slow and obvious.
fn naive<'r>(
    routes: &'r [Entry<String>],
    host: &str,
    method: &Method,
    path: &Path<'_>,
) -> Option<&'r str> {
    let fits = routes.iter().enumerate().filter(|(_, route)| {
        let rule = route.host.as_deref().unwrap_or_default();
        host_matches(rule, host) && route.pattern.matches(path) && takes(route, method)
    });
    let best = fits.min_by_key(|(at, route)| {
        (
            rank(route.host.as_deref().unwrap_or_default(), &route.pattern),
            method_rank(route, method),
            *at,
        )
    });
    best.map(|(_, route)| route.value.as_str())
}

prop_compose! {
    fn any_route()(
        host in prop::sample::select(vec!["", "h", "*.h", "*.x.h", "x.h", "y.x.h"]),
        segments in prop::collection::vec(prop::sample::select(vec!["a", "b", "{p}", "%61", "a%2Fb"]), 0..4),
        end in prop::sample::select(vec!["", "/", "/*"]),
        methods in prop::sample::select(vec!["", "GET", "GET POST", "OPTIONS", "HEAD"]),
    ) -> Entry<String> {
        let mut path: String = segments.iter().map(|s| format!("/{s}")).collect();
        path.push_str(end);
        entry(host, methods, if path.is_empty() { "/" } else { &path })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_tree_agrees_with_trying_every_route(
        routes in prop::collection::vec(any_route(), 0..24),
        requests in prop::collection::vec((
            prop::sample::select(vec!["h", "x.h", "y.x.h", "z.y.x.h", "other", ""]),
            prop::sample::select(vec!["GET", "POST", "HEAD", "OPTIONS", "DELETE"]),
            prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "%61", "a%2fb"]), 0..5),
            prop::bool::ANY,
        ), 1..24),
    ) {
        let (table, _) = Table::build(routes.clone());
        for (host, method, segments, slash) in requests {
            let mut path: String = segments.iter().map(|s| format!("/{s}")).collect();
            if slash || path.is_empty() {
                path.push('/');
            }
            let method: Method = method.parse().expect("is a method");
            let path = Path::check(&path).expect("is a path");
            let found = match table.find(host, &method, &path) {
                Found::Route(value) => Some(value.as_str()),
                Found::OtherMethods(_) | Found::Nothing => None,
            };
            prop_assert_eq!(found, naive(&routes, host, &method, &path), "{} {} {:?}", method, host, path);
        }
    }

    #[test]
    fn a_checked_path_never_holds_dots_or_doubled_slashes(raw in "/[a./%2eEfF\\\\;]{0,24}") {
        if let Ok(path) = Path::check(&raw) {
            let plain = path.with_separators().unwrap_or_else(|| raw.clone());
            prop_assert!(Path::check(&plain).is_ok(), "{}", plain);
            prop_assert!(!raw.contains("//"));
        }
    }
}
