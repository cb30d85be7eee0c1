//! The folder `contracts`: `TYPE/VERSION.json` for each version of each type, and whatever other files these refer to.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{bundle::bundle, contract::Contract, lint, version::Version};

/// The folder's name, beside `tangelo.yaml`.
pub const FOLDER: &str = "contracts";
/// Most files in it.
pub const MAX_FILES: usize = 500;
/// Most bytes of all files together.
pub const MAX_BYTES: usize = 2 << 20;

/// All contracts of an app.
#[derive(Debug, Default)]
pub struct Contracts {
    types: BTreeMap<String, BTreeMap<Version, Contract>>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("contracts/{path}: {reason}")]
pub struct Problem {
    /// Relative to the folder.
    pub path: String,
    /// What, and what was expected.
    pub reason: String,
}

impl Contracts {
    /// Reads all files of the folder, by their paths in it.
    ///
    /// # Errors
    /// Every problem of every file.
    pub fn read(files: &BTreeMap<String, String>) -> Result<Self, Vec<Problem>> {
        let problem = |path: &str, reason: String| Problem {
            path: path.to_owned(),
            reason,
        };
        let bytes: usize = files.values().map(String::len).sum();
        if files.len() > MAX_FILES || bytes > MAX_BYTES {
            let reason =
                format!("contracts are at most {MAX_FILES} files of {MAX_BYTES} bytes together");
            return Err(vec![problem("", reason)]);
        }
        let (mut parsed, mut problems) = (BTreeMap::new(), Vec::new());
        for (path, text) in files {
            match model::json::read(text.as_bytes()) {
                Ok(value @ (Value::Object(_) | Value::Bool(_))) => {
                    problems.extend(
                        lint::keywords(&value)
                            .into_iter()
                            .map(|reason| problem(path, reason)),
                    );
                    parsed.insert(path.clone(), value);
                }
                Ok(_) => problems.push(problem(path, "a schema is an object".to_owned())),
                Err(error) if error.is_data() => problems.push(problem(path, error.to_string())),
                Err(error) => problems.push(problem(path, format!("it is not JSON: {error}"))),
            }
        }
        let mut contracts = Self::default();
        for (path, schema) in &parsed {
            let Some((kind, version)) = named(path) else {
                continue;
            };
            match read_one(path, kind, version, schema, &parsed) {
                Ok(contract) => {
                    let versions = contracts.types.entry(kind.to_owned()).or_default();
                    if let Some(other) = versions.insert(contract.version, contract) {
                        let reason = format!("`{}` is the same version", other.path);
                        problems.push(problem(path, reason));
                    }
                }
                Err((place, reason)) => problems.push(problem(&place, reason)),
            }
        }
        problems.sort_by(|one, other| (&one.path, &one.reason).cmp(&(&other.path, &other.reason)));
        problems.dedup();
        match problems.is_empty() {
            true => Ok(contracts),
            false => Err(problems),
        }
    }

    /// The types that have contracts, with their versions, oldest first.
    pub fn types(&self) -> impl Iterator<Item = (&str, &BTreeMap<Version, Contract>)> {
        self.types
            .iter()
            .map(|(kind, versions)| (kind.as_str(), versions))
    }

    /// The versions of a type's contract; `None`: it has none.
    #[must_use]
    pub fn versions(&self, kind: &str) -> Option<&BTreeMap<Version, Contract>> {
        self.types.get(kind)
    }

    /// The contract that an event must keep to: the version that its `dataschema` names, else the newest. `None`: its type
    /// has none.
    ///
    /// # Errors
    /// What there is, when `dataschema` names no version that is there.
    pub fn contract_of(
        &self,
        kind: &str,
        dataschema: Option<&str>,
    ) -> Option<Result<&Contract, String>> {
        let versions = self.types.get(kind)?;
        let newest = versions.values().next_back()?;
        let Some(uri) = dataschema else {
            return Some(Ok(newest));
        };
        let found =
            Version::of_dataschema(uri).and_then(|(version, only_major)| match only_major {
                true => versions
                    .values()
                    .rfind(|contract| contract.version.major == version.major),
                false => versions.get(&version),
            });
        Some(found.ok_or_else(|| {
            let there: Vec<String> = versions.keys().map(Version::to_string).collect();
            format!(
                "`dataschema` names no version of the contract of `{kind}`: it ends with one of {}",
                there.join(", ")
            )
        }))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }
}

/// The type and version that a file is of: `order.created/1.2.json`. Other files are only referred to; what is called like a version
/// is meant as one, so that a contract of a misspelt type is not passed over.
fn named(path: &str) -> Option<(&str, &str)> {
    let (kind, file) = path.split_once('/')?;
    let version = file.strip_suffix(".json")?;
    let is_meant = kind.contains('.') || version.parse::<Version>().is_ok();
    let of_a_type = is_meant && !version.contains('/');
    of_a_type.then_some((kind, version))
}

fn read_one(
    path: &str,
    kind: &str,
    version: &str,
    schema: &Value,
    files: &BTreeMap<String, Value>,
) -> Result<Contract, (String, String)> {
    let wrong = |reason| (path.to_owned(), reason);
    if let Some(reason) = lint::type_problem(kind) {
        return Err(wrong(reason));
    }
    let version = version.parse().map_err(wrong)?;
    let bundle = bundle(path, files)?;
    Contract::new(version, path.to_owned(), schema.clone(), bundle).map_err(wrong)
}
