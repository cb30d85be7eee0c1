//! What a deploy's contracts must keep to: each file by itself, later versions beside earlier ones, what is live already, and
//! what subscriptions expect, those of the app itself and those of all others that are live.

use contract::{Contracts, Problem, Verdict, Version, compare};
use model::{App, AppName, Error, code};

use super::{
    World,
    expected::{Unmet, What, unmet},
    graph,
};
use crate::apps::Live;

/// Reads an app's contracts.
///
/// # Errors
/// `BAD_CONTRACT` with every problem.
pub(crate) fn read(app: &App) -> Result<Contracts, Error> {
    Contracts::read(&app.contracts).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
        Error::new(code::BAD_CONTRACT, lines.join("\n"))
    })
}

/// Checks what is deployed beside what is live; gives what could not be decided.
///
/// # Errors
/// `CONTRACT_INCOMPATIBLE` with a witness for each incompatibility, and what [`expectations`] has.
pub(crate) fn check(app: &App, contracts: &Contracts, live: &Live) -> Result<Vec<String>, Error> {
    let (mut broken, mut notes) = (Vec::new(), Vec::new());
    let own = live.apps.iter().find(|other| other.name == app.name);
    for (kind, versions) in contracts.types() {
        let known: Vec<_> = versions.values().collect();
        for (at, later) in known.iter().enumerate() {
            let same_major =
                |other: &&&contract::Contract| other.version.major == later.version.major;
            for earlier in known[..at].iter().filter(same_major) {
                compared(kind, earlier, later, &mut broken, &mut notes);
            }
            // A file that is live and was changed is a later version under the same name.
            let there = own.and_then(|own| own.contracts.versions(kind)?.get(&later.version));
            if let Some(there) = there.filter(|there| !there.is_same(later)) {
                compared(kind, there, later, &mut broken, &mut notes);
            }
        }
    }
    if broken.is_empty() {
        expectations(app, contracts, live)?;
        return Ok(notes);
    }
    Err(Error::new(code::CONTRACT_INCOMPATIBLE, broken.join("\n")))
}

fn compared(
    kind: &str,
    earlier: &contract::Contract,
    later: &contract::Contract,
    broken: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let (one, other) = (earlier.version, later.version);
    let pair = match one == other {
        true => format!("`{kind}` {one} as it is live and as it is to be"),
        false => format!("`{kind}` {one} and {other}"),
    };
    for direction in later.mode.directions() {
        match compare(earlier, later, *direction) {
            Verdict::Compatible => {}
            Verdict::Incompatible {
                witness,
                violations,
            } => {
                let first = violations.first();
                let why = first.map_or_else(String::new, |v| format!(" (`{}`: {})", v.pointer, v.message));
                broken.push(format!(
                    "{pair} are not {direction} compatible: one allows {witness}, which the other refuses{why}"
                ));
            }
            Verdict::Undecided { place, keyword } => notes.push(format!(
                "whether {pair} are {direction} compatible is undecided: `{keyword}` at `{place}` cannot be compared"
            )),
        }
    }
}

/// Whether every subscription finds what it asks for once `app` is live: its own, and those of other apps that found it before.
///
/// # Errors
/// `CONTRACT_NOT_SHIPPED` with the producer and the version that is needed, `CONTRACT_PINNED` with who asks for what would be gone.
pub(crate) fn expectations(app: &App, contracts: &Contracts, live: &Live) -> Result<(), Error> {
    let before = World::live(live);
    let after = before.with(app, contracts);
    let own = unmet(app, &after);
    if !own.is_empty() {
        let lines: Vec<String> = own.iter().map(|unmet| not_shipped(unmet, &after)).collect();
        return Err(Error::new(code::CONTRACT_NOT_SHIPPED, lines.join("\n")));
    }
    others_keep(&app.name, live, &after)
}

/// What the subscriptions of an app ask for that its own contracts of these types do not have: as it is seen before other apps are.
#[must_use]
pub fn not_in_own(app: &App, contracts: &Contracts) -> Vec<String> {
    let world = World::alone(app, contracts);
    let unmet = unmet(app, &world).into_iter();
    let own = unmet.filter(|unmet| contracts.versions(&unmet.kind).is_some());
    own.map(|unmet| not_shipped(&unmet, &world)).collect()
}

/// Whether every subscription of other apps that finds what it asks for still does when `app` is no more.
///
/// # Errors
/// `CONTRACT_PINNED` with who asks for what would be gone.
pub(crate) fn removal(app: &AppName, live: &Live) -> Result<(), Error> {
    others_keep(app, live, &World::live(live).without(app))
}

/// Whether the subscriptions of all apps but `app` find what they found before.
fn others_keep(app: &AppName, live: &Live, after: &World<'_>) -> Result<(), Error> {
    let before = World::live(live);
    let others = live.apps.iter().filter(|other| other.name != *app);
    let gone = others.flat_map(|other| {
        let already = unmet(&other.app, &before);
        let now = unmet(&other.app, after).into_iter();
        now.filter(move |unmet| !already.contains(unmet))
    });
    let lines: Vec<String> = gone.map(|unmet| taken_away(&unmet, after)).collect();
    match lines.is_empty() {
        true => Ok(()),
        false => Err(Error::new(code::CONTRACT_PINNED, lines.join("\n"))),
    }
}

fn not_shipped(unmet: &Unmet, world: &World<'_>) -> String {
    let Unmet { workload, kind, .. } = unmet;
    let there = there(kind, world);
    let producers = producers(kind, world);
    match (&unmet.what, there) {
        (What::Major(major), Some(there)) => {
            let who = producers.unwrap_or_else(|| "nobody who publishes it".to_owned());
            format!(
                "`{workload}` expects version {major} of `{kind}`, which {who} has not shipped: there is {there}"
            )
        }
        (What::Major(major), None) => {
            let who = match producers {
                Some(producers) => format!("{producers} must ship one first"),
                None => "whoever publishes it must ship one first".to_owned(),
            };
            format!(
                "`{workload}` expects version {major} of `{kind}`, which has no contract in any deployed app: {who}"
            )
        }
        (What::Field(field), there) => format!(
            "`{workload}` expects `data.{}` of `{kind}`, which no shipped version declares: {} must ship one later than {} \
             that does",
            field.join("."),
            producers.unwrap_or_else(|| "whoever publishes it".to_owned()),
            newest(kind, world).or(there).unwrap_or_default(),
        ),
    }
}

fn taken_away(unmet: &Unmet, world: &World<'_>) -> String {
    let Unmet {
        app,
        workload,
        kind,
        ..
    } = unmet;
    let left = there(kind, world).map_or_else(
        || "no version is left".to_owned(),
        |there| format!("what is left is {there}"),
    );
    match &unmet.what {
        What::Major(major) => format!(
            "`{app}/{workload}` pins version {major} of `{kind}`, which this takes away: {left}"
        ),
        What::Field(field) => format!(
            "`{app}/{workload}` asks for `data.{}` of `{kind}`, which this takes away: {left}",
            field.join(".")
        ),
    }
}

/// The versions of a type that are shipped; `None`: none.
fn there(kind: &str, world: &World<'_>) -> Option<String> {
    let versions = world.versions(kind);
    let names: Vec<String> = versions.keys().map(Version::to_string).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn newest(kind: &str, world: &World<'_>) -> Option<String> {
    let versions = world.versions(kind);
    versions.keys().next_back().map(Version::to_string)
}

/// Who declares that they publish a type; else the apps that have its contract. `None`: nobody.
fn producers(kind: &str, world: &World<'_>) -> Option<String> {
    let of_kind = graph::graph(world)
        .into_iter()
        .find(|one| one.kind == kind)?;
    let names = of_kind.producers.iter();
    let names: Vec<String> = match of_kind.producers.is_empty() {
        false => names
            .map(|one| format!("`{}/{}`", one.app, one.name))
            .collect(),
        true => {
            let apps = of_kind.contracts.iter();
            apps.map(|one| format!("app `{}`", one.app)).collect()
        }
    };
    (!names.is_empty()).then(|| names.join(" and "))
}
