//! The settings, read once: every problem is reported at the same time, with the name that the user wrote.

mod addresses;
mod events;
mod forms;
mod found;
mod keys;
mod meant;
mod near;
mod reader;
mod sign_in;
mod subscriptions;
mod types;

pub use forms::is_guid;
pub use keys::{CLIENT_SECRET, CREDENTIALS, CredentialSetting};
pub use types::{Class, Credential, Definitions, EventKind, Settings, Subscriptions, Version};

use crate::contract::{Failure, Problem};
use crate::diagnoses::SETTINGS_INVALID;
use addresses::Addresses;
use reader::SettingsReader;

/// Reads a user's settings: returns the settings and the subscriptions with their warnings, or every problem.
pub fn read(text: &str) -> Result<(Settings, Subscriptions, Vec<Problem>), Vec<Problem>> {
    let mut reader = SettingsReader::new(text, &[])?;
    let settings = settings(&mut reader);
    let subscriptions = subscriptions::read(&mut reader);
    sign_in::require_credential(&mut reader);
    if reader.problems.is_empty() { Ok((settings, subscriptions, reader.warnings)) } else { Err(reader.problems) }
}

impl Subscriptions {
    /// Reads the subscriptions of settings that `prepare` accepted.
    pub fn trusted(text: &str) -> Result<Subscriptions, Failure> {
        let mut reader = SettingsReader::new(text, &[]).map_err(|problems| invalid(&problems))?;
        let subscriptions = subscriptions::read(&mut reader);
        if reader.problems.is_empty() { Ok(subscriptions) } else { Err(invalid(&reader.problems)) }
    }
}

impl Settings {
    /// Reads settings that `prepare` accepted; credentials may be withheld. The subscriptions, which can be thousands,
    /// are skipped: a poll is about one.
    pub fn trusted(text: &str) -> Result<Settings, Failure> {
        let mut reader = SettingsReader::new(text, &subscriptions::KEYS).map_err(|problems| invalid(&problems))?;
        let settings = settings(&mut reader);
        if reader.problems.is_empty() { Ok(settings) } else { Err(invalid(&reader.problems)) }
    }

    /// Says whether the tenant is given by its id.
    pub fn tenant_is_id(&self) -> bool {
        is_guid(&self.tenant)
    }
}

/// The failure of settings that `prepare` would not accept.
fn invalid(problems: &[Problem]) -> Failure {
    let words: Vec<_> = problems
        .iter()
        .map(|problem| format!("`{}`: found {}, expected {}", problem.setting, problem.found, problem.expected))
        .collect();
    SETTINGS_INVALID.failure(&words.join("; "))
}

/// Checks each setting but the subscriptions, whose problems are shown after these.
fn settings(reader: &mut SettingsReader) -> Settings {
    reader.refuse_unknown_keys();
    let client_id = sign_in::client_id(reader);
    sign_in::secret_expires(reader);
    let Addresses { tenant, authority, endpoint, audience, partition } = addresses::read(reader);
    Settings {
        client_id,
        credential: sign_in::credential(reader),
        tenant,
        authority,
        endpoint,
        audience,
        partition,
        events: events::kinds(reader),
        definitions: reader.choice(
            "definitions",
            &[("summary", Definitions::Summary), ("none", Definitions::None), ("full", Definitions::Full)],
            meant::DEFINITIONS,
        ),
        class: events::class(reader),
        version: events::version(reader),
        emit_unchanged: reader.choice("emit", &[("changes", false), ("snapshot", true)], meant::EMIT),
        snapshot_seconds: events::snapshot_seconds(reader),
        raw: reader.choice("raw", &[("full", true), ("hash", false)], meant::RAW),
        observables: reader.boolean("entity_resolution", true),
        extension_version: events::extension_version(reader),
    }
}

#[cfg(test)]
pub(crate) const SAMPLE: &str = r#"{
    "client_key": "11111111-2222-3333-4444-555555555555", "client_secret": "sealed",
    "token_url": "AAAABBBB-0000-cccc-1111-dddd2222eeee", "subscription_id": "20FF7FC3-e762-44dd-bd96-b71116dcdc23"
}"#;

#[cfg(test)]
impl Settings {
    pub(crate) fn sample() -> Settings {
        Settings::trusted(SAMPLE).unwrap()
    }
}

#[cfg(test)]
mod tests;
