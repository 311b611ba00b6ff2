//! One feed before it is admitted: its settings are judged here first, and then by its plugin.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use source_host::clock::Clock;
use source_host::contract;
use source_host::credentials::expiry;
use source_host::feed::FeedError;
use source_host::feed::admitted::AdmittedFeed;
use source_host::feed::tenants::Tenants;
use source_host::network::egress::{self, Origins};
use source_host::plugin::Plugin;

use super::{CheckError, LeftOut, Why};
use crate::config::{FeedConfig, Problem, SeenFile, SourcePlace, astray};

/// What belongs into settings of two kinds.
const KEY_PAIR: &str = "PEM of an RSA private key without a passphrase and of its certificate";

const TOKEN_FILE: &str = "the path of a file with a signed token";

pub(super) type Admission = Result<(AdmittedFeed, Vec<Problem>), Unfit>;

/// Why a feed cannot be collected.
pub(super) enum Unfit {
    /// It is configured wrongly.
    Wrong(Vec<Problem>),
    /// It cannot be collected now, and that may change without its configuration.
    LeftOut(LeftOut),
}

pub(super) async fn check_feed(
    plugin: Plugin,
    config: FeedConfig,
    allowed: Arc<Origins>,
    nowhere: &Tenants,
    clock: &Clock,
) -> Result<Admission, CheckError> {
    let FeedConfig { id, tenant, interval, sinks, contact, settings, place, sealed, opened, mut unreadable, .. } =
        config;
    let problem = |setting: &str, message: String| {
        let key = setting.trim_start_matches('/').replace('/', ".");
        let top = key.split('.').next().unwrap_or_default();
        let (file, line) = place.settings.get(top).cloned().unwrap_or_else(|| (place.file.clone(), place.line));
        Problem { file, line, key: format!("feed {id}: settings.{key}"), message }
    };
    let found = |problem_of: &contract::Problem| {
        problem(&problem_of.setting, format!("found {}, expected {}", problem_of.found, problem_of.expected))
    };
    // A plugin that breaks down is the trouble of its own feeds.
    let broken = |message: String| {
        let SourcePlace { file, line, .. } = place.clone();
        Problem { file, line, key: format!("feed {id}: plugin"), message }
    };
    let description = match plugin.description().await {
        Ok(description) => description,
        Err(error) => {
            let problem = broken(error.to_string());
            return Ok(Err(Unfit::LeftOut(LeftOut::of_plugin(&tenant, &id, problem, unreadable))));
        }
    };
    let is_credential = |setting: &str| description.credentials.iter().any(|known| known.setting == setting);
    // What the plugin does not know at all is for it to say.
    let schema: serde_json::Value = serde_json::from_str(&description.settings_schema).unwrap_or_default();
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    let is_unknown = |setting: &str| properties.is_some_and(|properties| !properties.contains_key(setting));
    let no_secrets: Vec<&String> =
        sealed.iter().filter(|setting| !is_credential(setting) && !is_unknown(setting)).collect();
    let mut problems: Vec<Problem> = no_secrets
        .iter()
        .map(|setting| {
            let message = "found a secret, which the plugin never sees, expected a plain value: add `plain = true`";
            problem(setting, message.to_owned())
        })
        .collect();
    let refresh = description.refresh_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let short = interval.as_ref().zip(refresh).and_then(|(interval, refresh)| interval.oddity(refresh));
    let proposed = Duration::from_secs(description.interval_seconds.max(1).into());
    let interval = interval.map_or(proposed, |interval| interval.time);
    let dated = description.credentials.iter().filter_map(|credential| settings.expiry(&credential.setting));
    let mut expiries: Vec<(String, u64)> = dated.collect();
    let odd = settings.unsealed(&description);
    let given = settings.plain();
    problems.extend(odd.iter().filter_map(|setting| {
        let value = given.get(setting)?;
        let message = astray::reference(value).unwrap_or_else(|| {
            let found = astray::kind(value);
            format!("found {found}, expected a text, {{ env = \"…\" }} or {{ file = \"…\" }}: it is a credential")
        });
        Some(problem(setting, message))
    }));
    let open = settings.in_the_open(&description, &id, &opened);
    let mut warnings: Vec<Problem> = open.map(|(setting, words)| problem(&setting, words)).chain(short).collect();
    let settings = settings.sealing(&description).under(|setting| {
        let file = place.settings.get(setting).map_or(&place.file, |(file, _)| file);
        file.parent().map(Path::to_owned).unwrap_or_default()
    });
    let referred = unreadable.len();
    // Looked at first: who writes one while it is read has changed it.
    let files = settings.token_files().map(SeenFile::now).collect();
    for (setting, found) in settings.examined() {
        if unreadable.iter().any(|(known, _)| *known == setting) {
            continue;
        }
        match found {
            Ok(Some((from, until))) => {
                if from > clock() {
                    warnings
                        .push(problem(&setting, format!("its certificate is not valid before {}", expiry::date(from))));
                }
                expiries.push((setting, until));
            }
            Ok(None) => {}
            Err(error) => {
                let key = description
                    .credentials
                    .iter()
                    .any(|known| known.setting == setting && known.kind == contract::CredentialKind::KeyPair);
                let fits = if key { KEY_PAIR } else { TOKEN_FILE };
                let problem = problem(&setting, format!("found {error}, expected {fits}"));
                unreadable.push((setting, problem));
            }
        }
    }
    let mut admitted = AdmittedFeed {
        id: id.as_str().into(),
        tenant: tenant.into(),
        interval,
        sinks: sinks.into(),
        contact,
        origins: Arc::default(),
        in_clear: Box::default(),
        expiries: expiries.into(),
        plugin,
        identity: settings.identity(&description),
        settings,
        allowed,
        news: Arc::default(),
        plan: None,
    };
    let opened = match admitted.open(nowhere, clock).await {
        Ok(feed) => Some(feed),
        Err(FeedError::Settings(others)) => {
            // What the plugin says of what stands in place of a value is of no use to anybody.
            let unread = unreadable.iter().map(|(setting, _)| setting).filter(|setting| !is_credential(setting));
            let replaced: Vec<&String> = no_secrets.iter().copied().chain(&odd).chain(unread).collect();
            let top = |setting: &str| setting.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
            let told = others.iter().filter(|other| !replaced.contains(&&top(&other.setting)));
            let told: Vec<Problem> = told
                .map(|other| {
                    let setting = top(&other.setting);
                    let misplaced = is_unknown(&setting).then(|| astray::misplaced(&setting)).flatten();
                    let advice = misplaced.or_else(|| astray::reference(given.get(&setting)?));
                    advice.map_or_else(|| found(other), |advice| problem(&setting, advice))
                })
                .collect();
            // What the plugin says of a credential's place goes before what is found in it.
            let examined = unreadable.split_off(referred);
            let is_told = |setting: &str| others.iter().any(|other| top(&other.setting) == setting);
            unreadable.extend(examined.into_iter().filter(|(setting, _)| !is_told(setting)));
            problems.extend(told);
            None
        }
        Err(FeedError::Call(error)) if problems.is_empty() => {
            let problem = broken(error.to_string());
            return Ok(Err(Unfit::LeftOut(LeftOut::of_plugin(&admitted.tenant, &admitted.id, problem, unreadable))));
        }
        Err(error @ (FeedError::Call(_) | FeedError::Host(_))) => {
            problems.push(broken(error.to_string()));
            None
        }
    };
    let unreadable = unreadable.into_iter().map(|(_, problem)| problem);
    match opened {
        Some(feed) if problems.is_empty() && unreadable.len() == 0 => {
            warnings.extend(feed.plan().warnings.iter().map(found));
            warnings.extend(feed.oddities().into_iter().map(|(setting, words)| problem(&setting, words)));
            let origins: BTreeSet<String> =
                feed.plan().shapes.iter().filter_map(|shape| egress::canonical(&shape.origin)).collect();
            admitted.origins = origins.into_iter().collect();
            let carrying = feed.plan().shapes.iter().filter(|shape| !shape.credentials.is_empty());
            let carrying: BTreeSet<String> = carrying.filter_map(|shape| egress::canonical(&shape.origin)).collect();
            admitted.in_clear = carrying.into_iter().filter(|origin| origin.starts_with("http://")).collect();
            admitted.admit(&feed.plan().shapes);
            Ok(Ok((admitted, warnings)))
        }
        _ if problems.is_empty() && unreadable.len() > 0 => {
            let (tenant, feed, problems) = (admitted.tenant.to_string(), admitted.id.to_string(), unreadable.collect());
            Ok(Err(Unfit::LeftOut(LeftOut { tenant, feed, why: Why::Credentials, problems, files })))
        }
        _ => Ok(Err(Unfit::Wrong(problems.into_iter().chain(unreadable).collect()))),
    }
}
