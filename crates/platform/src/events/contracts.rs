//! What an event must keep to when it is published: the contract of its type, of the publisher's own app or of another one.

use contract::{Contract, pin};
use model::{AppName, Error, Event, code, event::EventData};
use serde_json::Value;

use crate::apps::Live;

/// Checks an event against the contract of its type, if there is one, and says in `contractversion` which version that was; in `dataschema`, too,
/// where its publisher said nothing.
///
/// # Errors
/// `CONTRACT_BROKEN` with the JSON Pointer of every violation.
pub(super) fn check(live: &Live, home: Option<&AppName>, mut event: Event) -> Result<Event, Error> {
    let own = live.apps.iter().filter(|app| Some(&app.name) == home);
    let others = live.apps.iter().filter(|app| Some(&app.name) != home);
    let schema = event.schema.as_deref();
    let contract = own
        .chain(others)
        .find_map(|app| app.contracts.contract_of(&event.kind, schema));
    let Some(contract) = contract else {
        return Ok(event);
    };
    let contract = contract.map_err(|reason| Error::new(code::CONTRACT_BROKEN, reason))?;
    kept(contract, &event)?;
    let version = contract.version.full();
    if event.schema.is_none() {
        event.schema = Some(format!("/contracts/{}/{version}", event.kind));
    }
    let attribute = pin::ATTRIBUTE.to_owned();
    event.extensions.insert(attribute, version.into());
    Ok(event)
}

fn kept(contract: &Contract, event: &Event) -> Result<(), Error> {
    let violations = match &event.data {
        EventData::Json(data) => contract.violations(data),
        EventData::None => contract.violations(&Value::Null),
        EventData::Binary(_) => {
            let message = format!(
                "the data of `{}` is checked by a contract and must be JSON",
                event.kind
            );
            return Err(Error::new(code::CONTRACT_BROKEN, message));
        }
    };
    if violations.is_empty() {
        return Ok(());
    }
    let lines = violations
        .iter()
        .map(|violation| format!("`{}`: {}", violation.pointer, violation.message));
    let lines: Vec<String> = lines.collect();
    let message = format!(
        "`{}` breaks version {} of its contract: {}",
        event.kind,
        contract.version,
        lines.join("; ")
    );
    Err(Error::new(code::CONTRACT_BROKEN, message))
}
