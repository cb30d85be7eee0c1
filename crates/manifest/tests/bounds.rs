//! Whatever bytes come in: no panic, an answer in bounded time and size, and places inside the text.

use std::fmt::Write as _;

use manifest::{MAX_DIAGNOSTICS, Parsed, parse, render};
use model::Limits;
use proptest::prelude::*;

const SHOP: &str = include_str!("shop.yaml");

fn bounded(text: &str) -> Parsed {
    let parsed = parse(text, "tangelo.yaml", &Limits::default());
    assert!(parsed.diagnostics.len() <= MAX_DIAGNOSTICS);
    for diagnostic in &parsed.diagnostics {
        let span = diagnostic.span;
        assert!(text.get(span.start..span.end).is_some(), "{span:?}");
        assert!(span.line >= 1 && span.column >= 1);
        assert!(diagnostic.message.len() < 1000, "{}", diagnostic.message);
    }
    assert_eq!(parsed.app.is_none(), parsed.has_errors());
    let shown = render(&parsed.diagnostics, text, "tangelo.yaml");
    assert_eq!(shown.is_empty(), parsed.diagnostics.is_empty());
    parsed
}

#[test]
fn a_manifest_over_the_limit_is_refused() {
    let text = format!("app: a\n# {}\n", "x".repeat(1 << 20));
    assert!(
        bounded(&text).diagnostics[0]
            .message
            .contains("larger than 1MiB")
    );
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let text = format!("app: {}{}", open.repeat(500), close.repeat(500));
        assert!(bounded(&text).has_errors());
    }
    let mut text = "app: a\nworkloads:\n".to_owned();
    for depth in 1..200 {
        writeln!(text, "{}a:", "  ".repeat(depth)).expect("a string takes all");
    }
    let told = bounded(&text);
    assert!(
        told.diagnostics[0].message.contains("too deep"),
        "{:?}",
        told.diagnostics[0]
    );
}

#[test]
fn alias_bombs_are_harmless() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        writeln!(
            text,
            "a{level}: &a{level} [{}]",
            before.trim_end_matches(", ")
        )
        .expect("a string takes all");
    }
    assert!(bounded(&text).has_errors());
}

#[test]
fn many_mistakes_are_cut() {
    let keys: String = (0..5000).fold(String::new(), |text, n| {
        text + &format!("  w{n}: {{x: 1}}\n")
    });
    let told = bounded(&format!("app: a\nworkloads:\n{keys}"));
    assert_eq!(told.diagnostics.len(), MAX_DIAGNOSTICS);
}

#[test]
fn long_chains_and_dense_graphs_end() {
    let mut text = "app: a\nworkloads:\n".to_owned();
    for n in 0..300 {
        let calls: Vec<_> = (1..300)
            .filter(|step| step % 7 == 1)
            .map(|step| format!("w{}", (n + step) % 300))
            .collect();
        let tier = if n % 2 == 0 { "function" } else { "service" };
        writeln!(
            text,
            "  w{n}: {{as: {tier}, run: {{wasm: {{component: a}}}}, calls: [{}]}}",
            calls.join(", ")
        )
        .expect("a string takes all");
    }
    assert_eq!(bounded(&text).diagnostics.len(), MAX_DIAGNOSTICS);
}

#[test]
fn other_characters_keep_their_columns() {
    let text = "app: shöp\nworkloads: {\u{1F34A}: {}}\n";
    let told = bounded(text);
    assert_eq!(
        (
            told.diagnostics[0].span.line,
            told.diagnostics[0].span.column
        ),
        (1, 6)
    );
}

/// Pieces that manifests are made of, to mutate with.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "as: job",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "\n",
        "  ",
        "&a ",
        "*a",
        "<<: *a",
        "!!str ",
        "|",
        ">",
        "'",
        "\"",
        "#",
        "on:",
        "event",
        "{type: [{prefix: a}]}",
        "0",
        "-1",
        "1e999",
        ".nan",
        "~",
        "\t",
        "é",
        "\u{0}",
        "---\n",
        "? ",
        "{{}}",
        "*",
        "/../",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        bounded(&text);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        bounded(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn mutated_manifests(edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..8, piece()), 1..12)) {
        let mut text = SHOP.to_owned();
        for (index, cut, piece) in edits {
            let start = text.floor_char_boundary(index.index(text.len().max(1)).min(text.len()));
            let end = text.ceil_char_boundary((start + cut).min(text.len()));
            text.replace_range(start..end, piece);
        }
        bounded(&text);
    }
}
