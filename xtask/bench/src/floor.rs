//! The least work of a program that reads these pages and writes these events: it parses the pages once with
//! `serde_json` and writes the same number of bytes of events once. It compares, judges and derives nothing.

use std::borrow::Cow;

use azure_secure_score::contract::Page;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct List<'a> {
    value: Vec<Item<'a>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "that the members are read is what is measured")]
struct Item<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "that the members are read is what is measured")]
struct Properties<'a> {
    #[serde(borrow)]
    display_name: Cow<'a, str>,
    healthy_resource_count: Option<f64>,
    unhealthy_resource_count: Option<f64>,
    not_applicable_resource_count: Option<f64>,
    score: Score,
    weight: f64,
    #[serde(borrow)]
    definition: Option<Definition<'a>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "that the members are read is what is measured")]
struct Score {
    max: f64,
    current: f64,
    percentage: f64,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "that the members are read is what is measured")]
struct Definition<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    properties: DefinitionProperties<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "that the members are read is what is measured")]
struct DefinitionProperties<'a> {
    #[serde(borrow)]
    display_name: Cow<'a, str>,
    #[serde(borrow)]
    description: Cow<'a, str>,
    max_score: f64,
}

/// Parses all pages and returns the number of their items.
pub fn parse(pages: &[Page]) -> usize {
    let items = |page: &Page| match serde_json::from_slice::<List<'_>>(&page.body) {
        Ok(list) => list.value.len(),
        Err(error) => unreachable!("the input is as this type has it: {error}"),
    };
    pages.iter().map(items).sum()
}

/// Writes the events one after the other and returns the number of their bytes.
pub fn write(events: &[Value]) -> usize {
    let mut out = Vec::with_capacity(256 << 10);
    for event in events {
        match serde_json::to_writer(&mut out, event) {
            Ok(()) => out.push(b'\n'),
            Err(error) => unreachable!("a value is JSON: {error}"),
        }
    }
    std::hint::black_box(&out).len()
}
