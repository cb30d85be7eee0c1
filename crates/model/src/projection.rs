//! Projections: subscriptions that are fed from the beginning of the log, and may be fed a second time beside.
//!
//! Each time is a generation, which has a cursor of its own and is a subscription of its own to everything below; its name
//! is the projection's with `-gN` behind it. Readers use the live one.

use serde::{Deserialize, Serialize};

use crate::{
    name::Name,
    subscription::{Subscription, SubscriptionKey},
};

/// The longest name of a projection, in bytes: the number of a generation stands behind it.
pub const MAX_PROJECTION_NAME: usize = 50;

/// The extension attribute by which a delivery says which generation it is for.
pub const GENERATION: &str = "tangelogeneration";

/// What a subscription says of itself when it feeds a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Projection {
    /// Who makes a new generation live.
    #[serde(default)]
    pub switch: Switching,
}

/// Who makes a new generation live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switching {
    /// Tangelo, as soon as it has had everything that the live one has had.
    #[default]
    Auto,
    /// An operator.
    Manual,
}

impl SubscriptionKey {
    /// The key of a projection's generation.
    ///
    /// # Panics
    /// When the name is longer than [`MAX_PROJECTION_NAME`], which the manifest refuses.
    #[must_use]
    pub fn generation(&self, number: u32) -> Self {
        let name = format!("{}-g{number}", self.name);
        Self {
            name: Name::new(&name).expect("a short name with a number is a name"),
            ..self.clone()
        }
    }
}

impl Subscription {
    /// Whether its events come strictly one after another, or batch after batch, in the order of the log.
    #[must_use]
    pub const fn is_serial(&self) -> bool {
        (self.projection.is_some() || self.serial) && self.order.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_have_names_of_their_own() {
        let key: SubscriptionKey = "shop/search/orders".parse().expect("is a key");
        assert_eq!(key.generation(12).to_string(), "shop/search/orders-g12");
        let longest = "a".repeat(MAX_PROJECTION_NAME);
        let key: SubscriptionKey = format!("shop/search/{longest}").parse().expect("is a key");
        let last = key.generation(u32::MAX);
        assert!(last.name.as_str().len() <= crate::name::MAX_NAME);
    }
}
