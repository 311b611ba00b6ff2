//! An event in an earlier version of OCSF, or in a class that lacks an attribute. Each event is first written as the newest
//! version spells it. One table has what another schema lacks, and the place where the event keeps that.

use crate::json::write::{MembersWriter, object};
use crate::json::{Document, JsonValue, Object, ValuePath, list};
use crate::settings::{Class, Version};

/// Something in events that not every schema has.
#[derive(Debug)]
pub struct Difference {
    /// The attribute; `[]` stands for each item of a list.
    pub attribute: &'static str,
    /// The classes that lack it.
    pub classes: &'static [Class],
    /// The first version that has it; `None` if no version of these classes does.
    pub begins: Option<Version>,
    /// Where a schema that lacks it has it.
    pub otherwise: Otherwise,
}

/// The place of something that a schema lacks.
#[derive(Debug, Clone, Copy)]
pub enum Otherwise {
    /// The attribute is under `unmapped`, at the same path.
    Unmapped,
    /// The attribute has another value, as JSON text, in place of the newest one.
    Value(&'static str, &'static str),
    /// The only item of the list is an attribute with this name.
    Item(&'static str),
}

const EVERY: &[Class] = &Class::ALL;
const DETECTION: &[Class] = &[Class::DetectionFinding];
const COMPLIANCE: &[Class] = &[Class::AssessmentFinding, Class::ComplianceFinding];

/// The table. Assessment Finding has the attributes of Compliance Finding.
pub const DIFFERENCES: &[Difference] = &[
    differs("compliance", DETECTION, None, Otherwise::Unmapped),
    differs("resources", COMPLIANCE, Some(Version::V1_3), Otherwise::Item("resource")),
    differs(
        "observables[].name",
        COMPLIANCE,
        Some(Version::V1_3),
        Otherwise::Value(r#""resources[0].uid""#, r#""resource.uid""#),
    ),
    differs("cloud.account.type_id", EVERY, Some(Version::V1_4), Otherwise::Value("13", "99")),
    differs("cloud.cloud_partition", EVERY, Some(Version::V1_4), Otherwise::Unmapped),
    differs("status_id", EVERY, Some(Version::V1_4), Otherwise::Value("5", "99")),
    differs("compliance.checks", COMPLIANCE, Some(Version::V1_5), Otherwise::Unmapped),
    differs("raw_data_size", EVERY, Some(Version::V1_5), Otherwise::Unmapped),
    differs("raw_data_hash", EVERY, Some(Version::V1_6), Otherwise::Unmapped),
    differs("metadata.is_truncated", EVERY, Some(Version::V1_6), Otherwise::Unmapped),
    differs("metadata.untruncated_size", EVERY, Some(Version::V1_6), Otherwise::Unmapped),
    differs("resources[].role_id", EVERY, Some(Version::V1_6), Otherwise::Unmapped),
    differs("resources[].role", EVERY, Some(Version::V1_6), Otherwise::Unmapped),
    differs("metadata.original_event_uid", EVERY, Some(Version::V1_7), Otherwise::Unmapped),
    differs("metadata.log_format", EVERY, Some(Version::V1_7), Otherwise::Unmapped),
];

const fn differs(
    attribute: &'static str,
    classes: &'static [Class],
    begins: Option<Version>,
    otherwise: Otherwise,
) -> Difference {
    Difference { attribute, classes, begins, otherwise }
}

/// A version of OCSF with a class: the rows of the table that it lacks.
#[derive(Debug, Clone)]
pub struct Schema {
    lacks: Vec<&'static Difference>,
}

impl Schema {
    /// Returns the schema of a class in a version.
    pub fn new(version: Version, class: Class) -> Schema {
        let lacks =
            |row: &&Difference| row.classes.contains(&class) && row.begins.is_none_or(|begins| version < begins);
        Schema { lacks: DIFFERENCES.iter().filter(lacks).collect() }
    }

    /// Says whether `unmapped` has attributes under this name, which no property of the service may take.
    pub fn reserves(&self, name: &str) -> bool {
        let is_there = |row: &&Difference| {
            let first = row.attribute.split(['.', '[']).next();
            matches!(row.otherwise, Otherwise::Unmapped) && first == Some(name)
        };
        self.lacks.iter().any(is_there)
    }

    /// Spells an event, which is in the newest version, as this schema has it. `unmapped` comes last.
    pub fn spelled(&self, event: Vec<u8>) -> Vec<u8> {
        if self.lacks.is_empty() {
            return event;
        }
        let Ok(document) = Document::read(&event) else { unreachable!("the plugin writes JSON") };
        let Ok(members) = Object::read(document.root(), &ValuePath::Root) else {
            unreachable!("an event is an object")
        };
        let (mut spelled, mut moved) = (Vec::with_capacity(event.len() + 128), Vec::new());
        object(&mut spelled, |kept| {
            object(&mut moved, |moved| {
                for (key, value) in members.iter().filter(|(key, _)| *key != "unmapped") {
                    self.member(key, key, value, kept, moved);
                }
            });
            let unmapped = members.get("unmapped").map_or("{}", JsonValue::get);
            let parts = [inner(unmapped.as_bytes()), inner(&moved)].into_iter().filter(|part| !part.is_empty());
            kept.foreign("unmapped", listed(b'{', parts, b'}'));
        });
        spelled
    }

    fn row(&self, path: &str) -> Option<&'static Difference> {
        self.lacks.iter().find(|row| row.attribute == path).copied()
    }

    fn differs_below(&self, path: &str) -> bool {
        let is_below = |attribute: &str| attribute.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.lacks.iter().any(|row| is_below(row.attribute))
    }

    /// Divides a value into the part that the schema has, and the part that belongs under `unmapped`.
    fn divided(&self, path: &str, value: JsonValue<'_>) -> Divided {
        if let Ok(members) = Object::read(value, &ValuePath::Root) {
            return self.divided_members(path, &members);
        }
        let Ok(items) = list(value, &ValuePath::Root) else { return Divided::whole(value) };
        let items: Vec<Divided> = items.map(|item| self.divided(&format!("{path}[]"), item)).collect();
        let kept = listed(b'[', items.iter().map(|item| item.kept.as_slice()), b']');
        let moved: Vec<&[u8]> = items.iter().filter_map(|item| item.moved.as_deref()).collect();
        Divided { kept, moved: (!moved.is_empty()).then(|| listed(b'[', moved.into_iter(), b']')) }
    }

    fn divided_members(&self, path: &str, members: &Object<'_>) -> Divided {
        let (mut kept, mut moved) = (Vec::new(), Vec::new());
        object(&mut kept, |kept| {
            object(&mut moved, |moved| {
                for (key, value) in members.iter() {
                    let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                    self.member(&path, key, value, kept, moved);
                }
            });
        });
        Divided { kept, moved: (moved != b"{}").then_some(moved) }
    }

    fn member(
        &self,
        path: &str,
        key: &str,
        value: JsonValue<'_>,
        kept: &mut MembersWriter<'_>,
        moved: &mut MembersWriter<'_>,
    ) {
        let otherwise = self.row(path).map(|row| row.otherwise);
        match otherwise {
            Some(Otherwise::Unmapped) => return moved.foreign(key, value.get()),
            Some(Otherwise::Value(newest, earlier)) if value.get() == newest => return kept.foreign(key, earlier),
            _ => {}
        }
        let divided = if self.differs_below(path) { self.divided(path, value) } else { Divided::whole(value) };
        match otherwise {
            Some(Otherwise::Item(name)) => kept.foreign(name, inner(&divided.kept)),
            _ => kept.foreign(key, &divided.kept),
        }
        if let Some(divided) = divided.moved {
            moved.foreign(key, &divided);
        }
    }
}

/// A value in two parts, both JSON text.
struct Divided {
    kept: Vec<u8>,
    moved: Option<Vec<u8>>,
}

impl Divided {
    fn whole(value: JsonValue<'_>) -> Divided {
        Divided { kept: value.get().into(), moved: None }
    }
}

/// Returns the text between the brackets of a list or an object.
fn inner(text: &[u8]) -> &[u8] {
    &text[1..text.len() - 1]
}

/// Returns the parts between brackets, with commas between them.
fn listed<'a>(open: u8, parts: impl Iterator<Item = &'a [u8]>, close: u8) -> Vec<u8> {
    let mut text = vec![open];
    for (index, part) in parts.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(part);
    }
    text.push(close);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: &str = r#"{"class_uid":1,"status_id":5,"metadata":{"version":"x","log_format":"JSON","is_truncated":true},"cloud":{"account":{"type_id":13,"type":"Azure Subscription"},"cloud_partition":"p"},"compliance":{"control":"c","checks":[{"uid":"a"}]},"resources":[{"uid":"/s","role_id":1,"role":"Target"}],"observables":[{"name":"resources[0].uid","type_id":10}],"unmapped":{"score":{"max":10.0},"weight":2},"raw_data":"{\"a\":1}","raw_data_size":7}"#;

    fn check(version: Version, class: Class, expected: &str) {
        assert_eq!(Schema::new(version, class).spelled(NEWEST.into()), expected.as_bytes(), "{version:?} {class:?}");
    }

    #[test]
    fn the_newest_version_has_everything() {
        check(Version::NEWEST, Class::AssessmentFinding, NEWEST);
        check(Version::NEWEST, Class::ComplianceFinding, NEWEST);
        check(Version::V1_7, Class::ComplianceFinding, NEWEST);
    }

    #[test]
    fn what_a_schema_lacks_is_under_unmapped() {
        check(
            Version::V1_1,
            Class::ComplianceFinding,
            r#"{"class_uid":1,"status_id":99,"metadata":{"version":"x"},"cloud":{"account":{"type_id":99,"type":"Azure Subscription"}},"compliance":{"control":"c"},"resource":{"uid":"/s"},"observables":[{"name":"resource.uid","type_id":10}],"raw_data":"{\"a\":1}","unmapped":{"score":{"max":10.0},"weight":2,"metadata":{"log_format":"JSON","is_truncated":true},"cloud":{"cloud_partition":"p"},"compliance":{"checks":[{"uid":"a"}]},"resources":[{"role_id":1,"role":"Target"}],"raw_data_size":7}}"#,
        );
        check(
            Version::V1_6,
            Class::DetectionFinding,
            r#"{"class_uid":1,"status_id":5,"metadata":{"version":"x","is_truncated":true},"cloud":{"account":{"type_id":13,"type":"Azure Subscription"},"cloud_partition":"p"},"resources":[{"uid":"/s","role_id":1,"role":"Target"}],"observables":[{"name":"resources[0].uid","type_id":10}],"raw_data":"{\"a\":1}","raw_data_size":7,"unmapped":{"score":{"max":10.0},"weight":2,"metadata":{"log_format":"JSON"},"compliance":{"control":"c","checks":[{"uid":"a"}]}}}"#,
        );
    }

    #[test]
    fn a_name_under_unmapped_is_reserved_where_it_is_used() {
        let oldest = Schema::new(Version::V1_1, Class::AssessmentFinding);
        for name in ["metadata", "cloud", "compliance", "resources", "raw_data_size", "raw_data_hash"] {
            assert!(oldest.reserves(name), "{name}");
            assert!(!Schema::new(Version::NEWEST, Class::AssessmentFinding).reserves(name), "{name}");
        }
        assert!(!oldest.reserves("score") && !oldest.reserves("raw_data") && !oldest.reserves("status_id"));
        assert!(Schema::new(Version::NEWEST, Class::DetectionFinding).reserves("compliance"));
    }
}
