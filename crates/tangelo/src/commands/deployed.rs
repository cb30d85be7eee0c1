//! Names that were asked for and found nowhere: whether they are of anything that is deployed.

use anyhow::Result;
use model::code;
use serde_json::Value;

use crate::{client::Client, failure::failure};

/// What somebody asked to see: an app, a workload, or both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) app: Option<String>,
    pub(crate) workload: Option<String>,
}

impl Asked {
    /// `name` or `app/name`, with the app that was named beside it.
    pub(crate) fn new(app: Option<&str>, workload: Option<&str>) -> Self {
        let (inside, workload) = match workload.map(|name| name.split_once('/')) {
            Some(Some((app, name))) => (Some(app), Some(name)),
            Some(None) => (None, workload),
            None => (None, None),
        };
        Self {
            app: inside.or(app).map(str::to_owned),
            workload: workload.map(str::to_owned),
        }
    }

    /// For callers that found nothing: an error when that is because nothing of this name is deployed.
    pub(crate) async fn must_be_deployed(&self, client: &Client) -> Result<()> {
        if self.app.is_none() && self.workload.is_none() {
            return Ok(());
        }
        let answer: Value = client.get("/v1/ps").await?;
        self.find(&answer["workloads"])
    }

    fn find(&self, deployed: &Value) -> Result<()> {
        let rows: Vec<(&str, &str)> = deployed
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|row| Some((row["app"].as_str()?, row["workload"].as_str()?)))
            .collect();
        let is = |asked: &Option<String>, name: &str| asked.as_deref().is_none_or(|a| a == name);
        if rows
            .iter()
            .any(|(app, workload)| is(&self.app, app) && is(&self.workload, workload))
        {
            return Ok(());
        }
        let (what, mut there): (_, Vec<String>) = match (&self.app, &self.workload) {
            (Some(app), Some(workload)) => (format!("workload `{app}/{workload}`"), full(&rows)),
            (None, Some(workload)) => (format!("workload `{workload}`"), full(&rows)),
            (app, None) => (
                format!("app `{}`", app.as_deref().unwrap_or_default()),
                rows.iter().map(|(app, _)| (*app).to_owned()).collect(),
            ),
        };
        there.sort();
        there.dedup();
        let code = match self.workload {
            Some(_) => code::NO_SUCH_WORKLOAD,
            None => code::NO_SUCH_APP,
        };
        let message = match there.is_empty() {
            true => format!("no {what} is deployed: nothing is"),
            false => format!("no {what} is deployed; there is {}", there.join(", ")),
        };
        Err(failure(code, message))
    }
}

fn full(rows: &[(&str, &str)]) -> Vec<String> {
    let full = rows
        .iter()
        .map(|(app, workload)| format!("{app}/{workload}"));
    full.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_nothing_are_told_with_what_there_is() {
        let deployed = json!([
            {"app": "desk", "workload": "front"},
            {"app": "desk", "workload": "store"},
            {"app": "shop", "workload": "front"},
        ]);
        let told = |app, workload| {
            let found = Asked::new(app, workload).find(&deployed);
            found.map_err(|error| error.to_string()).err()
        };
        assert_eq!(told(None, Some("front")), None);
        assert_eq!(told(None, Some("shop/front")), None);
        assert_eq!(told(Some("desk"), Some("store")), None);
        assert_eq!(
            told(None, Some("shop/store")).as_deref(),
            Some(
                "no workload `shop/store` is deployed; there is desk/front, desk/store, shop/front [TG0209]"
            )
        );
        assert_eq!(
            told(Some("nix"), None).as_deref(),
            Some("no app `nix` is deployed; there is desk, shop [TG0210]")
        );
    }
}
