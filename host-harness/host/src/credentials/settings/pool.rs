//! Parts that the settings of many feeds share, kept once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{HeldCredential, Settings};
use crate::digest::ShortDigest;

/// Number of members in which settings may differ from those before them and still share the others.
const MOST_OWN: usize = 4;

/// Finds the parts of settings that earlier settings have, too.
#[derive(Default)]
pub struct SettingsPool {
    texts: BTreeSet<Arc<str>>,
    /// Lists of credentials by their digest.
    secrets: BTreeMap<ShortDigest, Arc<[HeldCredential]>>,
    /// The plain settings that came last, by group.
    last: BTreeMap<Box<str>, Map<String, Value>>,
}

impl Settings {
    /// The same settings, in which the parts that earlier settings have, too, are those of the earlier ones. Plain
    /// settings are compared within the group, and mostly differ in few members: the feeds of a tenant differ in their
    /// scopes.
    pub fn sharing(self, pool: &mut SettingsPool, group: &str) -> Settings {
        let Settings { secrets, trimmed, .. } = &self;
        let secrets = pool.secrets(secrets);
        let whole = self.text();
        let plain = self.plain();
        let before = pool.last.insert(group.into(), plain.clone()).unwrap_or_default();
        let (common, own): (Map<_, _>, Map<_, _>) =
            plain.into_iter().partition(|(name, value)| before.get(name) == Some(value));
        let text = |members: Map<String, Value>| Value::Object(members).to_string();
        let splits = !common.is_empty() && (1..=MOST_OWN).contains(&own.len());
        let split = Settings {
            plain: pool.text(&if splits { text(common) } else { whole.clone().into_owned() }),
            own: if splits { text(own).into() } else { Box::default() },
            secrets,
            trimmed: trimmed.clone(),
        };
        // The order of the members decides about digests.
        if split.text() == whole { split } else { self.clone() }
    }
}

impl SettingsPool {
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    fn secrets(&mut self, secrets: &Arc<[HeldCredential]>) -> Arc<[HeldCredential]> {
        let lines = secrets.iter().map(|held| format!("{}={}\n", held.setting, held.secret.expose()));
        let known = self.secrets.entry(ShortDigest::of(&lines.collect::<String>()));
        let known = known.or_insert_with(|| Arc::clone(secrets));
        Arc::clone(if **known == **secrets { known } else { secrets })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::credentials::secret::Secret;

    fn settings(plain: Value, secret: &str) -> Settings {
        let secrets = BTreeMap::from([("key".to_owned(), Secret::new(secret))]);
        Settings::new(plain.as_object().cloned().unwrap_or_default(), secrets)
    }

    #[test]
    fn settings_of_a_group_share_all_but_the_members_in_which_they_differ() {
        let mut pool = SettingsPool::default();
        let all: Vec<Settings> = (0..4)
            .map(|scope| settings(json!({ "client": "a", "scope": scope, "cloud": { "name": "public" } }), "secret"))
            .collect();
        let shared: Vec<Settings> = all.iter().map(|one| one.clone().sharing(&mut pool, "contoso")).collect();
        for (one, shared) in all.iter().zip(&shared) {
            assert_eq!((one.plain(), one.digest()), (shared.plain(), shared.digest()));
            assert_eq!(one.credential_id("salt"), shared.credential_id("salt"));
            assert_eq!(one.with_fixed_placeholders(), shared.with_fixed_placeholders());
            assert!(Arc::ptr_eq(&shared.secrets, &all[0].secrets));
        }
        assert_eq!(&*shared[3].own, r#"{"scope":3}"#);
        assert!(Arc::ptr_eq(&shared[2].plain, &shared[3].plain));
        let copied = shared[3].copied();
        assert!(!Arc::ptr_eq(&copied.plain, &shared[3].plain));
        assert_eq!(copied.digest(), all[3].digest());
    }

    #[test]
    fn nothing_is_shared_that_differs() {
        let mut pool = SettingsPool::default();
        let first = settings(json!({ "client": "a", "scope": 1 }), "secret").sharing(&mut pool, "contoso");
        let other = settings(json!({ "client": "a", "scope": 1 }), "other secret").sharing(&mut pool, "contoso");
        assert!(!Arc::ptr_eq(&first.secrets, &other.secrets) && Arc::ptr_eq(&first.plain, &other.plain));
        let fewer = settings(json!({ "client": "a" }), "secret").sharing(&mut pool, "contoso");
        assert_eq!(fewer.plain().len(), 1);
        let none = settings(json!({}), "secret").sharing(&mut pool, "contoso");
        assert!(none.plain().is_empty());
    }
}
