//! Digests that a plugin and its plan are held to.

use std::num::NonZeroUsize;

use super::*;

#[test]
fn pins_are_digests_and_stand_where_they_hold() {
    let digest = "0123456789abcdef".repeat(4);
    let (pin, other) = (format!("\"{digest}\""), format!("\"{}\"", digest.replace('0', "F")));
    let defaults = format!("[feed_defaults]\nplugin_sha256 = {pin}\n");
    let own = format!("plugin_sha256 = {other}\nplan_sha256 = {pin}");
    let config = read(&format!("{defaults}{}{}", feed("a", ""), feed("b", &own)), None).unwrap();
    let pins = |index: usize| {
        let Pins { plugin, plan } = &config.feeds[index].pins;
        [plugin, plan]
            .map(|pin| pin.as_ref().map(|pin| (pin.sha256.clone(), pin.place.at.line.map_or(0, NonZeroUsize::get))))
    };
    assert_eq!(pins(0), [Some((digest.clone(), 2)), None]);
    assert_eq!(pins(1), [Some((digest.replace('0', "f"), 12)), Some((digest.clone(), 13))]);

    let expected = "expected the 64 hexadecimal digits that `inspect -c` prints";
    for (written, found, meant) in [
        ("7".to_owned(), "7", "; write a string in quotes: \"7\"".to_owned()),
        ("true".to_owned(), "a boolean", String::new()),
        ("\"\"".to_owned(), "\"\"", String::new()),
        (format!("\"{}\"", &digest[1..]), "63 digits", String::new()),
        (format!("\"{digest}0\""), "65 digits", String::new()),
        (format!("\"sha256:{digest}\""), "\"sha256:01", format!("; write {pin}")),
        (format!("\" {digest}\""), "\" 01", format!("; write {pin}")),
        (format!("\"{}\"", digest.replace('0', "g")), "\"g12", String::new()),
    ] {
        for key in ["plugin_sha256", "plan_sha256"] {
            let told = read(&feed("a", &format!("{key} = {written}")), None).unwrap_err();
            let is_told = |told: &str| {
                let rest = told.strip_prefix(&format!("c.toml:4: feed a: {key}: found {found}"));
                rest.is_some_and(|rest| rest.ends_with(&format!("{expected}{meant}")))
            };
            assert!(matches!(&told[..], [one] if is_told(one)), "{written}: {told:?}");
        }
    }

    for (text, told) in [
        (
            format!("[feed_defaults]\nplan_sha256 = {pin}\n{}", feed("a", "")),
            "feed_defaults.plan_sha256: a plan follows",
        ),
        (
            format!("[feed_defaults.settings]\nplugin_sha256 = {pin}\n{}", feed("a", "")),
            "feed_defaults.settings.plugin_sha256: belongs to [[feed]]",
        ),
        (format!("{}plan_sha256 = {pin}\n", feed("a", "")), "feed a: settings.plan_sha256: belongs to [[feed]]"),
        (
            format!("{}plugin_sha256 = {pin}\n", feed("a", &format!("plugin_sha256 = {pin}"))),
            "feed a: settings.plugin_sha256: belongs to [[feed]]",
        ),
    ] {
        let problems = read(&text, None).unwrap_err();
        assert!(matches!(&problems[..], [one] if one.contains(told)), "{told} in {problems:?}");
    }
}
