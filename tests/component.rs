//! The properties of the built component, and the host's treatment of other components.

use host_harness::built_in;
use source_host::plugin::{ALLOWED_IMPORTS, Plugin};

use crate::support::{host, plugin};

#[test]
fn the_component_imports_nothing_beyond_the_list() {
    let about = plugin().about().clone();
    assert!(!about.imports.is_empty());
    for import in &about.imports {
        let name = import.split('@').next().unwrap();
        assert!(ALLOWED_IMPORTS.contains(&name), "{import}");
    }
    assert_eq!(about.exports, ["collector:source/plugin@0.2.0"]);
}

#[tokio::test]
async fn it_describes_itself() {
    let description = plugin().describe().await.0.unwrap();
    assert_eq!(description.name, "azure-secure-score");
    assert_eq!(description.interval_seconds, 3_600);
    let kinds: Vec<_> = description.events.iter().map(|kind| kind.name.as_str()).collect();
    assert_eq!(kinds, ["secure-scores", "secure-score-controls"]);
}

#[test]
fn a_component_of_another_kind_is_refused_by_name() {
    let refused = |bytes: &[u8]| Plugin::from_bytes(&host(), bytes).err().unwrap().to_string();
    assert!(refused(b"\0asm\x0d\0\x01\0").contains("collector:source/plugin"), "{}", refused(b"\0asm\x0d\0\x01\0"));
    refused(b"hello");
}

#[test]
fn another_version_of_the_contract_is_refused_with_those_that_are_accepted() {
    let replaced = |bytes: &[u8], from: &[u8], to: &[u8]| {
        let mut bytes = bytes.to_vec();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
        bytes
    };
    let other = replaced(built_in::COMPONENT, b"source/plugin@0.2.0", b"source/plugin@0.9.0");
    let message = Plugin::from_bytes(&host(), &other).err().unwrap().to_string();
    assert!(message.contains("0.9.0") && message.contains("0.2.x"), "{message}");
}
