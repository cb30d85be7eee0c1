//! What is worth a look about the types that an app names, whether or not they have contracts: names that break the rule, and types
//! that nobody takes. `check` asks it of one app, a deploy of all that are live; so both say the same.

use std::collections::BTreeSet;

use contract::Contracts;
use model::{App, Capture};

use super::{World, graph::graph};

/// Types that an app publishes and nobody takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untaken {
    /// The type; `TABLE.*` of a table whose changes are captured and of which nobody takes any.
    pub kind: String,
    /// Who of the app publishes it, as [`super::Producer::name`].
    pub producers: Vec<String>,
}

/// What is wrong with the names of the types that an app publishes or asks for by name: the rule is
/// [`contract::type_problem`]'s. Changes of tables are called as their tables are, which have rules of their own. Types that have
/// contracts are looked at with these, where a bad name is an error.
#[must_use]
pub fn misnamed(app: &App) -> Vec<String> {
    let contracts = Contracts::default();
    let types = graph(&World::alone(app, &contracts)).into_iter();
    let said = types.filter_map(|one| {
        let problem = contract::type_problem(&one.kind)?;
        let producers: Vec<String> = one.producers.into_iter().map(|side| side.name).collect();
        if table(&one.kind).is_some() && producers.iter().all(|name| is_capture(name)) {
            return None;
        }
        let consumers = one.consumers.into_iter().map(|side| side.name).collect();
        let (who, does): (BTreeSet<String>, _) = match producers.is_empty() {
            false => (producers.into_iter().collect(), "publishes"),
            true => (consumers, "waits for"),
        };
        let who: Vec<String> = who.into_iter().collect();
        Some(format!("{problem} (`{}` {does} it)", who.join("`, `")))
    });
    said.collect()
}

/// Types that `app`, which is in `world`, publishes and that nobody there takes.
#[must_use]
pub fn untaken(app: &App, world: &World<'_>) -> Vec<Untaken> {
    let types = graph(world);
    let taken = types.iter().filter(|one| !one.consumers.is_empty());
    let tables: BTreeSet<&str> = taken.filter_map(|one| table(&one.kind)).collect();
    let mut untaken: Vec<Untaken> = Vec::new();
    for one in types.iter().filter(|one| one.consumers.is_empty()) {
        let own = one.producers.iter().filter(|side| side.app == app.name);
        let producers: Vec<String> = own.map(|side| side.name.clone()).collect();
        if producers.is_empty() {
            continue;
        }
        // All changes of a table come, whichever of them somebody wants.
        let changes = table(&one.kind).filter(|_| producers.iter().all(|name| is_capture(name)));
        let kind = match changes {
            Some(table) if tables.contains(table) => continue,
            Some(table) => format!("{table}.*"),
            None => one.kind.clone(),
        };
        if !untaken.iter().any(|told| told.kind == kind) {
            untaken.push(Untaken { kind, producers });
        }
    }
    untaken
}

/// The table of a type that is one of its changes.
fn table(kind: &str) -> Option<&str> {
    let (table, word) = kind.rsplit_once('.')?;
    Capture::WORDS.contains(&word).then_some(table)
}

fn is_capture(producer: &str) -> bool {
    producer.ends_with(".capture")
}

#[cfg(test)]
mod tests {
    use model::Limits;

    use super::*;

    fn app(text: &str) -> App {
        let parsed = manifest::parse(text, "tangelo.yaml", &Limits::default());
        let rendered = manifest::render(&parsed.diagnostics, text, "tangelo.yaml");
        parsed.app.expect(&rendered)
    }

    const SHOP: &str = "
app: shop
workloads:
  orders:
    as: function
    run: {lambda: {runtime: python3, handler: app.handler, code: code}}
    publishes: [OrderLost, order.created]
    on:
      - {name: a, event: {type: [order.cancel, order_lines.inserted]}}
databases:
  legacy:
    postgres: {url: 'postgres://me@127.0.0.1:1/legacy'}
    capture: {tables: [order_lines, old_orders]}
";

    #[test]
    fn names_are_looked_at_where_an_app_chose_them() {
        let said = misnamed(&app(SHOP));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said[0].starts_with("`OrderLost`: ") && said[0].ends_with("(`orders` publishes it)"),
            "{said:?}"
        );
        assert!(
            said[1].contains("`cancel` is no verb") && said[1].ends_with("(`orders` waits for it)"),
            "{said:?}"
        );
    }

    #[test]
    fn a_table_is_taken_when_some_of_its_changes_are() {
        let (app, none) = (app(SHOP), Contracts::default());
        let untaken = untaken(&app, &World::alone(&app, &none));
        let kinds: Vec<&str> = untaken.iter().map(|one| one.kind.as_str()).collect();
        assert_eq!(kinds, ["OrderLost", "old_orders.*", "order.created"]);
        assert_eq!(untaken[1].producers, ["legacy.capture"]);
    }
}
