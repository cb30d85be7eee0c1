//! Whether changes can be read from a slot of logical replication, decided from what the server says of it: the relay that reads
//! it and the command that shows it ask the same.

/// What `pg_replication_slots` says of a slot.
pub(super) struct SlotFound {
    pub(super) plugin: String,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(super) wal_status: String,
    /// Whether it is one of the database that is asked: slots' names are the server's.
    pub(super) is_here: bool,
}

/// Why nothing can be read from a slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SlotProblem {
    #[error("there is no slot `{0}`")]
    Missing(String),
    #[error("the slot `{0}` is one of another database of the server")]
    Elsewhere(String),
    #[error("the slot `{0}` is one of `{1}`")]
    OtherPlugin(String, String),
    /// It stays lost, whatever is done to the server.
    #[error(
        "the server has removed what the slot `{0}` was to keep (max_slot_wal_keep_size): changes were lost. \
         `tangelo capture drop`, then init, begins anew"
    )]
    Lost(String),
}

impl SlotProblem {
    /// Of the slot `name`, as it was found; `None`: it can be read.
    pub(super) fn of(name: &str, found: Option<&SlotFound>) -> Option<Self> {
        let name = name.to_owned();
        match found {
            None => Some(Self::Missing(name)),
            Some(found) if !found.is_here => Some(Self::Elsewhere(name)),
            Some(found) if found.plugin != "pgoutput" => {
                Some(Self::OtherPlugin(name, found.plugin.clone()))
            }
            Some(found) if found.wal_status == "lost" => Some(Self::Lost(name)),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_read_where_it_is_ours_and_not_lost() {
        let check = |plugin: &str, wal_status: &str, is_here, expected: Option<&str>| {
            let found = SlotFound {
                plugin: plugin.to_owned(),
                wal_status: wal_status.to_owned(),
                is_here,
            };
            let said = SlotProblem::of("s", Some(&found)).map(|problem| problem.to_string());
            let is = match (&said, expected) {
                (Some(said), Some(expected)) => said.contains(expected),
                (said, expected) => said.is_none() && expected.is_none(),
            };
            assert!(is, "{said:?}, not {expected:?}");
        };
        for kept in ["reserved", "extended", "unreserved", ""] {
            check("pgoutput", kept, true, None);
        }
        check(
            "pgoutput",
            "lost",
            true,
            Some("`tangelo capture drop`, then init"),
        );
        check("wal2json", "reserved", true, Some("is one of `wal2json`"));
        check("pgoutput", "reserved", false, Some("another database"));
        let missing = SlotProblem::of("s", None).map(|problem| problem.to_string());
        assert_eq!(missing.as_deref(), Some("there is no slot `s`"));
    }
}
