//! Compares the events of a peer with the plugin's: the same members with the same values, in any order of members.

use serde_json::Value;

/// Returns an error that names the first difference. The members at the paths `aside` do not count; names in a path are
/// joined by dots, and a path passes through arrays. `raw_data` is compared as the JSON that it holds, and a number by
/// its value: most languages keep neither the order of members nor the spelling of numbers.
pub fn require(ours: &[Value], theirs: &[Value], aside: &[&str]) -> Result<(), String> {
    if ours.is_empty() || ours.len() != theirs.len() {
        return Err(format!("found {} events of the peer, expected {}", theirs.len(), ours.len()));
    }
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        if let Some((path, ours, theirs)) = difference("", ours, theirs, aside) {
            return Err(format!("event {index} of the peer: `{path}`: found {theirs}, expected {ours}"));
        }
    }
    Ok(())
}

/// Returns the path and both values of the first difference.
fn difference(path: &str, ours: &Value, theirs: &Value, aside: &[&str]) -> Option<(String, Value, Value)> {
    let differs = || Some((path.to_owned(), ours.clone(), theirs.clone()));
    match (ours, theirs) {
        _ if aside.contains(&path) => None,
        (Value::String(ours), Value::String(theirs)) if path == "raw_data" => {
            match (serde_json::from_str::<Value>(ours), serde_json::from_str::<Value>(theirs)) {
                (Ok(ours), Ok(theirs)) => difference("raw_data:", &ours, &theirs, aside),
                _ => differs(),
            }
        }
        (Value::Object(of_ours), Value::Object(of_theirs)) => {
            let names = of_ours.keys().chain(of_theirs.keys().filter(|name| !of_ours.contains_key(*name)));
            names.into_iter().find_map(|name| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let value = |of: &serde_json::Map<String, Value>| of.get(name).cloned().unwrap_or_default();
                difference(&path, &value(of_ours), &value(of_theirs), aside)
            })
        }
        (Value::Array(of_ours), Value::Array(of_theirs)) if of_ours.len() == of_theirs.len() => {
            of_ours.iter().zip(of_theirs).find_map(|(ours, theirs)| difference(path, ours, theirs, aside))
        }
        (Value::Number(of_ours), Value::Number(of_theirs)) if of_ours.as_f64() == of_theirs.as_f64() => None,
        _ if ours == theirs => None,
        _ => differs(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(ours: Value, theirs: Value, expected: Result<(), &str>) {
        let found = require(&[ours], &[theirs], &["uid", "list.uid"]);
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn the_order_of_members_and_the_spelling_of_numbers_do_not_count() {
        check(json!({ "a": 1, "b": [2.0] }), json!({ "b": [2], "a": 1.0 }), Ok(()));
        check(json!({ "raw_data": r#"{"a":1,"b":2}"# }), json!({ "raw_data": r#"{"b":2,"a":1.0}"# }), Ok(()));
        check(json!({ "uid": 1, "list": [{ "uid": 1 }] }), json!({ "uid": 2, "list": [{ "uid": 2 }] }), Ok(()));
    }

    #[test]
    fn a_difference_is_named_with_both_values() {
        let named = |words| Err(words);
        check(
            json!({ "a": { "b": 1 } }),
            json!({ "a": {} }),
            named("event 0 of the peer: `a.b`: found null, expected 1"),
        );
        check(json!({}), json!({ "a": 1 }), named("event 0 of the peer: `a`: found 1, expected null"));
        check(
            json!({ "a": [1] }),
            json!({ "a": [1, 2] }),
            named("event 0 of the peer: `a`: found [1,2], expected [1]"),
        );
        check(
            json!({ "raw_data": r#"{"a":1}"# }),
            json!({ "raw_data": r#"{"a":2}"# }),
            named("event 0 of the peer: `raw_data:.a`: found 2, expected 1"),
        );
        assert!(require(&[], &[], &[]).is_err());
    }
}
