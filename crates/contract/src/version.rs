//! A contract's version: `1`, `1.2` or `1.2.3`, in the name of its file and at the end of an event's `dataschema`.

use std::{fmt, str::FromStr};

/// A version; what is not written is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Subscribers pin it.
    pub major: u32,
    /// Grows with what is added.
    pub minor: u32,
    /// Grows with what changes no event.
    pub patch: u32,
}

impl Version {
    /// The version at the end of an event's `dataschema`, such as `/contracts/order.created/1.2`, and whether it names
    /// only the major part.
    #[must_use]
    pub fn of_dataschema(uri: &str) -> Option<(Self, bool)> {
        let uri = uri.strip_suffix(".json").unwrap_or(uri);
        let last = uri.rsplit(['/', ':', '@', '#']).next()?;
        let version = last.strip_prefix('v').unwrap_or(last);
        Some((version.parse().ok()?, !version.contains('.')))
    }

    /// All three parts, also those that are zero: `1.2.0`.
    #[must_use]
    pub fn full(self) -> String {
        let Self {
            major,
            minor,
            patch,
        } = self;
        format!("{major}.{minor}.{patch}")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.minor, self.patch) {
            (0, 0) => write!(f, "{}", self.major),
            (minor, 0) => write!(f, "{}.{minor}", self.major),
            (minor, patch) => write!(f, "{}.{minor}.{patch}", self.major),
        }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no version: expected `1`, `1.2` or `1.2.3`");
        let number = |part: &str| {
            let plain = part.bytes().all(|b| b.is_ascii_digit());
            let plain = plain && (part == "0" || !part.starts_with('0'));
            plain.then(|| part.parse::<u32>().ok()).flatten()
        };
        let parts: Option<Vec<u32>> = text.split('.').map(number).collect();
        match parts.as_deref() {
            Some([major, rest @ ..]) if *major >= 1 && rest.len() <= 2 => Ok(Self {
                major: *major,
                minor: rest.first().copied().unwrap_or(0),
                patch: rest.get(1).copied().unwrap_or(0),
            }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let version = |text: &str| text.parse::<Version>().expect("is one");
        assert!(version("1.2") < version("1.10") && version("1.10") < version("2"));
        assert_eq!(version("1.0.0").to_string(), "1");
        assert_eq!(version("1.2.3").to_string(), "1.2.3");
        for wrong in [
            "",
            "0",
            "1.",
            "01",
            "1.2.3.4",
            "v1",
            "1.x",
            "-1",
            "99999999999",
        ] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_events_dataschema_names_a_version() {
        let of = |uri: &str| Version::of_dataschema(uri).map(|(v, major)| (v.to_string(), major));
        assert_eq!(
            of("/contracts/order.created/1.2"),
            Some(("1.2".to_owned(), false))
        );
        assert_eq!(
            of("https://x.example/order.created/2.json"),
            Some(("2".to_owned(), true))
        );
        assert_eq!(
            of("urn:shop:order.created:v3"),
            Some(("3".to_owned(), true))
        );
        assert_eq!(of("https://x.example/schema"), None);
    }
}
