//! The recorded cases of EventBridge and its matcher, where they are at hand.

use pattern::{Index, Pattern};
use serde_json::Value;

/// The recorded cases: not part of this repository.
fn material() -> Option<Value> {
    let file = testkit::material()?.join("conformance/event-patterns.json");
    let text = std::fs::read_to_string(file).ok()?;
    Some(serde_json::from_str(&text).expect("the material is JSON"))
}

fn verdict(case: &Value) -> &'static str {
    let text = |name: &str| case[name].as_str().expect("a text");
    let (Ok(pattern), Ok(event)) = (
        Pattern::parse(text("pattern")),
        serde_json::from_str::<Value>(text("event")),
    ) else {
        return "error";
    };
    if !event.is_object() {
        return "error";
    }
    let mut index = Index::default();
    index.insert(1, &pattern);
    let alone = pattern.matches(&event);
    assert_eq!(
        index.matches_json(&event).len(),
        usize::from(alone),
        "{case}"
    );
    if alone { "match" } else { "nomatch" }
}

#[test]
fn recorded_cases_agree() {
    let Some(material) = material() else {
        eprintln!("skipped: no conformance/event-patterns.json under TANGELO_MATERIAL");
        return;
    };
    let cases = material["cases"].as_array().expect("a list of cases");
    let wrong: Vec<_> = cases
        .iter()
        .map(|case| (case, verdict(case)))
        .filter(|(case, got)| case["expected"] != *got)
        .map(|(case, got)| {
            format!(
                "{}: expected {}, got {got}\n  {}\n  {}",
                case["id"], case["expected"], case["pattern"], case["event"]
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    assert!(cases.len() > 600, "only {} cases", cases.len());
}

/// All recorded patterns in one index find what each finds alone.
#[test]
fn recorded_patterns_agree_in_one_index() {
    let Some(material) = material() else {
        eprintln!("skipped: no conformance/event-patterns.json under TANGELO_MATERIAL");
        return;
    };
    let cases = material["cases"].as_array().expect("a list of cases");
    let pattern = |case: &Value| Pattern::parse(case["pattern"].as_str()?).ok();
    let patterns: Vec<Pattern> = cases.iter().filter_map(pattern).collect();
    let mut index = Index::default();
    for (key, pattern) in patterns.iter().enumerate() {
        index.insert(key, pattern);
    }
    for case in cases {
        let text = case["event"].as_str().expect("a text");
        let Ok(event) = serde_json::from_str::<Value>(text) else {
            continue;
        };
        let matching = |key: &usize| patterns[*key].matches(&event);
        let expected: Vec<usize> = (0..patterns.len()).filter(matching).collect();
        assert_eq!(index.matches_json(&event), expected, "{event}");
    }
}

#[test]
fn recorded_syntax_agrees() {
    let Some(material) = material() else {
        eprintln!("skipped: no conformance/event-patterns.json under TANGELO_MATERIAL");
        return;
    };
    let cases = material["syntax"].as_array().expect("a list of cases");
    // The older compiler, which EventBridge does not use, refuses some that the newer one takes.
    let current = |case: &&Value| case["compiler"] == "JsonRuleCompiler";
    let wrong: Vec<_> = cases
        .iter()
        .filter(current)
        .filter(|case| {
            let pattern = case["pattern"].as_str().expect("a text");
            case["valid"] != Pattern::parse(pattern).is_ok()
        })
        .map(|case| format!("{}: {} {}", case["id"], case["pattern"], case["error"]))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
