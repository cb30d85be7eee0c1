//! Names: of types of events, and of keywords, of which a wrong one would be silently ignored by JSON Schema.

use serde_json::Value;

use crate::keywords::{BY_NAME, holds_schemas, is_known};

/// What is wrong with a type's name: it is `noun.verb-past` in lower case, with as many nouns as it takes.
#[must_use]
pub fn type_problem(kind: &str) -> Option<String> {
    let rule = "a type is `noun.verb-past` in lower case, such as `order.created`";
    let word = |word: &str| {
        let plain = word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        plain && word.starts_with(|c: char| c.is_ascii_lowercase()) && !word.ends_with('-')
    };
    let words: Vec<&str> = kind.split('.').collect();
    let shown: String = kind.chars().take(80).collect();
    if let Some(version) = words.last().filter(|last| {
        let digits = last.strip_prefix('v').unwrap_or(last);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    }) {
        return Some(format!(
            "`{shown}`: {rule}; its version (`{version}`) belongs into `dataschema`"
        ));
    }
    if words.len() < 2 || !words.iter().all(|part| word(part)) {
        return Some(format!("`{shown}`: {rule}"));
    }
    let mut last = words.last()?.rsplit('-');
    let (end, before) = (last.next()?, last.next());
    let verb = before.filter(|_| PARTICLES.contains(&end)).unwrap_or(end);
    (!is_past(verb)).then(|| format!("`{shown}`: {rule}; `{verb}` is no verb in the past tense"))
}

/// What stands behind a verb that is only whole with it: `user.signed-in`, `cart.checked-out`.
const PARTICLES: &[&str] = &[
    "away", "back", "down", "in", "off", "on", "out", "over", "through", "up",
];

/// Irregular verbs that things happen by.
const IRREGULAR: &[&str] = &[
    "begun",
    "bought",
    "broken",
    "brought",
    "built",
    "chosen",
    "cut",
    "done",
    "drawn",
    "driven",
    "fallen",
    "fed",
    "forgotten",
    "found",
    "frozen",
    "given",
    "gone",
    "grown",
    "held",
    "hidden",
    "hit",
    "kept",
    "known",
    "laid",
    "led",
    "left",
    "lent",
    "let",
    "lit",
    "lost",
    "made",
    "met",
    "overdue",
    "overridden",
    "overwritten",
    "paid",
    "put",
    "quit",
    "read",
    "rebuilt",
    "resent",
    "reset",
    "rewritten",
    "risen",
    "run",
    "seen",
    "sent",
    "set",
    "shown",
    "shut",
    "sold",
    "spent",
    "split",
    "spoken",
    "stolen",
    "stuck",
    "sunk",
    "swept",
    "taken",
    "taught",
    "thrown",
    "told",
    "torn",
    "understood",
    "undone",
    "upheld",
    "withdrawn",
    "won",
    "woken",
    "written",
];

fn is_past(verb: &str) -> bool {
    verb.len() > 3 && verb.ends_with("ed") || IRREGULAR.contains(&verb)
}

/// Keywords that JSON Schema does not know and would pass over, except those that begin with `x-`.
pub(crate) fn keywords(schema: &Value) -> Vec<String> {
    let (mut problems, mut looking) = (Vec::new(), vec![(String::new(), schema)]);
    while let Some((place, schema)) = looking.pop() {
        let Value::Object(fields) = schema else {
            continue;
        };
        for (name, value) in fields {
            let inner = format!("{place}/{name}");
            match (name.as_str(), value) {
                (by_name, Value::Object(schemas)) if BY_NAME.contains(&by_name) => {
                    looking.extend(
                        schemas
                            .iter()
                            .map(|(name, schema)| (format!("{inner}/{name}"), schema)),
                    );
                }
                (schemas, Value::Array(items)) if holds_schemas(schemas) => {
                    let items = items.iter().enumerate();
                    looking.extend(items.map(|(at, schema)| (format!("{inner}/{at}"), schema)));
                }
                (schema, value) if holds_schemas(schema) => looking.push((inner, value)),
                (known, _) if is_known(known) || known.starts_with("x-") => {}
                (unknown, _) => {
                    let unknown: String = unknown.chars().take(60).collect();
                    problems.push(format!(
                        "`{unknown}` is no keyword of JSON Schema 2020-12 (at `{inner}`)"
                    ));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_nouns_and_past_verbs() {
        for good in [
            "order.created",
            "order.line.price-changed",
            "invoice.paid",
            "shop2.item.back-ordered",
            "mail.sent",
            "user.signed-in",
            "machine.shut-down",
        ] {
            assert_eq!(type_problem(good), None);
        }
        let bad = |kind: &str, reason: &str| {
            let problem = type_problem(kind).expect("is wrong");
            assert!(problem.contains(reason), "{problem}");
        };
        bad("OrderCreated", "lower case");
        bad("order", "noun.verb-past");
        bad("order.create", "`create` is no verb in the past tense");
        bad("user.sign-in", "`sign` is no verb in the past tense");
        bad("user.in", "`in` is no verb in the past tense");
        bad("order.created.v2", "belongs into `dataschema`");
        bad("order.created.2", "belongs into `dataschema`");
        bad("order..created", "noun.verb-past");
        bad("order.Created", "lower case");
    }
}
