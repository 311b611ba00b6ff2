//! The contract is frozen at 0.2.0: a plugin made for it runs in every later host that accepts 0.2, and none of its
//! types changes.

use std::sync::Arc;

use host_harness::admitted::tenants::Tenants;
use host_harness::built_in;
use parking_lot::Mutex;
use serde_json::{Value, json};
use source_host::contract::Reaction;
use source_host::credentials::settings::Settings;
use source_host::feed::{Feed, Identity};
use source_host::limits::Limits;
use source_host::network::egress::Origins;
use source_host::network::{Nowhere, Transport};
use source_host::plugin::Plugin;
use source_host::plugin::tap::tapped;
use wit_component::{ComponentEncoder, OutputToString, StringEncoding, WitPrinter, embed_component_metadata};
use wit_parser::{PackageId, Resolve};

use crate::support::{NOON, host, noon, root, unadmitted};

/// The contract as published, without its documentation.
const CONTRACT: &str = include_str!("frozen/source.wit");

/// Reads a contract; its dependencies are those of the project.
fn read(contract: &str) -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    let mut dependencies: Vec<_> = std::fs::read_dir(root().join("wit/deps")).unwrap().flatten().collect();
    // Each package needs those before it.
    let order = ["io", "clocks", "http"];
    dependencies.sort_by_key(|folder| order.iter().position(|name| folder.file_name() == *name));
    for folder in dependencies {
        resolve.push_dir(folder.path()).unwrap();
    }
    let package = resolve.push_str("source.wit", contract).unwrap();
    (resolve, package)
}

/// Prints a contract without documentation.
fn bare(contract: &str) -> String {
    let (resolve, package) = read(contract);
    let mut printer = WitPrinter::<OutputToString>::default();
    printer.emit_docs(false);
    printer.print(&resolve, package, &[]).unwrap();
    printer.output.to_string()
}

/// Makes a component of the plugin in `frozen/plugin.wat`.
fn plugin() -> Vec<u8> {
    let (resolve, package) = read(CONTRACT);
    let world = resolve.select_world(&[package], Some("plugin-code")).unwrap();
    let mut module = wat::parse_str(include_str!("frozen/plugin.wat")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

#[test]
fn no_type_of_the_contract_changes_within_its_version() {
    let now = bare(&std::fs::read_to_string(root().join("wit/source.wit")).unwrap());
    assert!(
        now == CONTRACT,
        "the contract differs from tests/frozen/source.wit, as which 0.2.0 was published: a plugin made for it may not \
         run any more. Give the contract another minor version, keep this file and plugin.wat for the old one, and add \
         such a pair for the new one. The contract is now:\n{now}"
    );
}

#[tokio::test]
async fn an_admitted_feed_is_polled_in_two_calls() {
    let calls = Arc::new(Mutex::new(Vec::<String>::new()));
    let heard = Arc::clone(&calls);
    let tap = Arc::new(move |what: &str, _: &[u8]| {
        let mut calls = heard.lock();
        if calls.last().is_none_or(|last| last != what) {
            calls.push(what.to_owned());
        }
    });
    let plugin = tapped(Plugin::from_bytes(&host(), &plugin()).unwrap(), tap);
    let mut admitted = unadmitted("contoso", plugin, Settings::default(), Origins::default()).await;
    let tenants = Tenants::new(|_| Ok(Arc::new(Nowhere) as Arc<dyn Transport>));
    let feed = admitted.open(&tenants, &noon()).await.unwrap();
    admitted.keep_plan(&feed.plan().shapes);
    let scope = feed.discover().await.unwrap().scopes.remove(0);
    calls.lock().clear();
    for poll in 0..2 {
        let feed = admitted.open(&tenants, &noon()).await.unwrap();
        assert_eq!(feed.poll(&scope, NOON + poll, None).await.failure, None);
    }
    let calls = calls.lock().join(", ");
    let of_one = "argument of fetch-token, argument of poll, argument of normalize";
    assert_eq!(calls, format!("{of_one}, {of_one}"), "a cached token saves the first");
}

#[tokio::test]
async fn a_plugin_made_for_0_2_0_runs() {
    let plugin = Plugin::from_bytes(&host(), &plugin()).unwrap();
    assert!(!built_in::is(plugin.about()));
    let description = plugin.description().await.unwrap();
    assert_eq!((description.name.as_str(), description.version.as_str()), ("frozen", "0.2.0"));
    assert_eq!((description.interval_seconds, description.refresh_seconds), (3_600, Some(28_800)));
    assert_eq!(
        (description.events[0].class_uids.as_slice(), description.diagnoses[0].code.as_str()),
        (&[2004][..], "no-assertion")
    );
    let identity = Identity {
        tenant: "contoso".to_owned(),
        feed: "contoso-items".to_owned(),
        limits: Limits::default(),
        allowed: Arc::new(Origins::new(["https://api.example"]).unwrap()),
        transport: Arc::new(Nowhere),
        tokens: Arc::default(),
        clock: noon(),
    };
    let feed = Feed::open(plugin, Settings::default(), identity).await.unwrap();
    assert_eq!(feed.plan().shapes[0].credentials.len(), 1);
    let scope = feed.discover().await.unwrap().scopes.remove(0);
    assert_eq!((scope.id.as_str(), scope.plugin_data.as_str()), ("one", "opaque"));
    let polled = feed.poll(&scope, NOON, None).await;
    assert_eq!(polled.failure, None);
    let batch = polled.batch.unwrap();
    let event: Value = serde_json::from_slice(&batch.events[0].body).unwrap();
    assert_eq!(event["metadata"], json!({ "uid": batch.events[0].uid }));
    assert_eq!((batch.state.as_slice(), batch.measures[0].maximum), (&b"1 state"[..], 4.0));
    assert!(batch.outcome.is_none_or(|outcome| outcome.reaction == Reaction::NoData));
}
