//! What an event must keep to when it is published: the contract of its type, of the publisher's own app or of another one.

use contract::{Contract, Version, pin};
use model::{AppName, Error, Event, Limits, code, event::EventData};
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

/// Checks an event of the log that has other data now: it keeps to the version that it was checked by when it was published. Of several apps
/// that have one under this number any will do, as it is not kept whose it was. Where none has it any more, or it was checked by none,
/// it keeps to what it would have to be published now.
///
/// # Errors
/// `CONTRACT_BROKEN` with the JSON Pointer of every violation; `BAD_EVENT` and `PAYLOAD_TOO_LARGE` for what could not be published either.
pub(crate) fn edited(live: &Live, event: &Event, limits: &Limits) -> Result<(), Error> {
    let size = serde_json::to_vec(event).map_err(Error::internal)?.len();
    if size > limits.event.as_usize() {
        let message = format!(
            "the event would have {size} bytes; {} is the most",
            limits.event
        );
        return Err(Error::new(code::PAYLOAD_TOO_LARGE, message));
    }
    if let EventData::Json(data) = &event.data {
        super::http_binding::shallow(data, limits)?;
    }
    let version: Option<Version> = event
        .extensions
        .get(pin::ATTRIBUTE)
        .and_then(|said| said.as_str()?.parse().ok());
    let mut first = None;
    for app in &live.apps {
        let versions = app.contracts.versions(&event.kind);
        let contract = version.and_then(|version| versions?.get(&version));
        match contract.map(|contract| kept(contract, event)) {
            None => {}
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) => Err(error),
        None => check(live, None, event.clone()).map(drop),
    }
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
