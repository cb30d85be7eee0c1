//! Function names and ARNs. A workload `orders` of app `shop` is the function `shop_orders`; a bare name means the
//! caller's own app, then the only workload of that name. `_` cannot be part of a Tangelo name, so neither can be mistaken.

use std::sync::Arc;

use model::{AppName, Error, code};
use percent_encoding::percent_decode_str;
use platform::{Platform, dispatch::Callee, payload};

use crate::{fault::Fault, identity::Identity};

/// The longest name that Lambda takes (an ARN with a qualifier).
const LONGEST: usize = 170;

/// The function's name for AWS.
pub(super) fn function_name(callee: &Callee) -> String {
    payload::function_name(&callee.target.app, &callee.target.workload)
}

/// The function's ARN, computed from its key.
pub(super) fn arn(callee: &Callee) -> String {
    payload::function_arn(&callee.target.app, &callee.target.workload)
}

/// The workload that `text` means: a name, a partial or a whole ARN, with `:$LATEST` or without.
pub(super) fn resolve(
    platform: &Platform,
    identity: &Identity,
    text: &str,
) -> Result<Arc<Callee>, Fault> {
    let text = percent_decode_str(text).decode_utf8_lossy();
    if text.is_empty() || text.len() > LONGEST {
        return Err(Fault::new(
            400,
            "ValidationException",
            "a function's name has 1 to 170 characters",
        ));
    }
    let (name, qualifier) = split(&text);
    if let Some(qualifier) = qualifier.filter(|q| *q != "$LATEST") {
        let message = format!(
            "Function not found: {text}: there are no versions or aliases yet, only $LATEST, not `{qualifier}`"
        );
        return Err(Fault::new(404, "ResourceNotFoundException", message));
    }
    let home: Option<AppName> = match identity {
        Identity::Instance(caller) => Some(caller.presence.app.clone()),
        Identity::Outside => None,
    };
    let asked = name.replacen('_', "/", 1);
    platform
        .apps()
        .by_name(&asked, home.as_ref())
        .map_err(|error| not_found(&text, &error))
}

/// The name and the qualifier of what AWS takes as a function.
fn split(text: &str) -> (&str, Option<&str>) {
    let rest = match text.split_once(":function:") {
        Some((_, rest)) => rest,
        None => text,
    };
    match rest.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (rest, None),
    }
}

fn not_found(text: &str, error: &Error) -> Fault {
    let message = format!(
        "Function not found: {text}: {} [{}]",
        error.message,
        code::NO_SUCH_WORKLOAD
    );
    Fault::new(404, "ResourceNotFoundException", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_arns_and_qualifiers() {
        for (text, name, qualifier) in [
            ("orders", "orders", None),
            ("shop_orders:$LATEST", "shop_orders", Some("$LATEST")),
            (
                "arn:aws:lambda:us-east-1:000000000000:function:shop_orders",
                "shop_orders",
                None,
            ),
            (
                "arn:aws:lambda:us-east-1:000000000000:function:orders:live",
                "orders",
                Some("live"),
            ),
            ("000000000000:function:orders", "orders", None),
        ] {
            assert_eq!(split(text), (name, qualifier), "{text}");
        }
    }
}
