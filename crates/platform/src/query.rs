//! The query of a request that asks for something by names and values.

use model::{Error, code};

/// Its names and values, in their order, percent-encoded as they are.
///
/// # Errors
/// Each `BAD_REQUEST`, for a name that stood before: which of the two values is meant is not known.
pub fn pairs(text: &str) -> impl Iterator<Item = Result<(&str, &str), Error>> {
    let mut seen = Vec::new();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if seen.contains(&name) {
            let message = format!("`{}` is given more than once", shown(name));
            return Err(Error::new(code::BAD_REQUEST, message));
        }
        seen.push(name);
        Ok((name, value))
    })
}

/// The beginning of a name from outside, for a message.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_twice_is_refused_and_all_else_is_there() {
        let read = |text| pairs(text).collect::<Result<Vec<_>, _>>();
        let all = read("a=1&&b&c=x=y").expect("is one");
        assert_eq!(all, [("a", "1"), ("b", ""), ("c", "x=y")]);
        let refused = read("a=1&b=2&a=1").expect_err("is there twice");
        assert_eq!(refused.message, "`a` is given more than once");
    }
}
