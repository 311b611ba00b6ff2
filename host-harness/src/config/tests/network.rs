//! `[network]`: the proxy, named here or in the environment.

use super::*;

/// Returns the proxy of a configuration with this line in `[network]` and with these variables.
fn proxied(line: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    let text = format!("[network]\n{line}\n{}", feed("a", ""));
    let config = told(parse(Path::new("c.toml"), &text, None, &environment)).map_err(|problems| problems.join("\n"))?;
    let direct = url::Url::parse("https://inside.example").unwrap();
    assert!(config.network.proxy.address_for(&direct).is_none());
    let plain = url::Url::parse("http://outside.example").unwrap();
    let plain = if config.network.proxy.address_for(&plain).is_some() { "all" } else { "https" };
    Ok(format!("{plain} {}", config.network.proxy.name().unwrap_or_default()))
}

#[test]
fn a_proxy_is_named_here_or_in_the_environment() {
    let inside = ("NO_PROXY", "inside.example");
    let of_environment = ("HTTPS_PROXY", "http://u:hunter2@outer:1");
    for (line, variables, expected) in [
        ("proxy = \"http://proxy:3128\"", &[of_environment, inside][..], "all http://proxy:3128"),
        ("proxy = { env = \"P\" }", &[("P", "http://u:hunter2@proxy:3128"), inside], "all http://proxy:3128"),
        ("", &[of_environment, inside], "https http://outer:1"),
        ("", &[("https_proxy", "outer:1"), ("no_proxy", ".example")], "https http://outer:1"),
        ("", &[("HTTPS_PROXY", ""), inside], "https "),
        ("", &[("HTTPS_PROXY", ""), ("https_proxy", "outer:1"), inside], "https http://outer:1"),
        ("", &[("HTTPS_PROXY", " \t"), ("https_proxy", "outer:1"), inside], "https http://outer:1"),
        ("", &[("HTTPS_PROXY", "outer:1"), ("https_proxy", ""), inside], "https http://outer:1"),
        ("", &[of_environment, ("NO_PROXY", " "), ("no_proxy", "inside.example")], "https http://outer:1"),
        ("", &[("https_proxy", "outer:1"), ("NO_PROXY", ""), ("no_proxy", "inside.example")], "https http://outer:1"),
    ] {
        assert_eq!(proxied(line, variables).as_deref(), Ok(expected), "{line} {variables:?}");
    }
}

#[test]
fn what_is_wrong_with_a_proxy_is_told_without_its_password() {
    for (line, variables, expected) in [
        ("proxy = \"http://u:hunter2@proxy:3128\"", &[][..], "c.toml:2: network.proxy: found a password in plain text"),
        ("proxy = \"http://u:hunter2@proxy/x\"", &[], "c.toml:2: network.proxy: found something else, expected"),
        ("proxy = { env = \"P\" }", &[("P", "ftp://u:hunter2@h")], "c.toml:2: network.proxy: found something else"),
        ("proxy = { env = \"P\" }", &[], "c.toml:2: network.proxy: found no variable P"),
        (
            "proxy = \"http://user@proxy:3128\"",
            &[],
            "c.toml:2: network.proxy: found a user name without a password, expected",
        ),
        (
            "proxy = \"None\"",
            &[],
            "c.toml:2: network.proxy: found \"None\", expected the address of a proxy; to go without",
        ),
        ("proxy = false", &[], "c.toml:2: network.proxy: found false, expected the address of a proxy; to go without"),
        ("proxy = 1", &[], "c.toml:2: network.proxy: found 1, expected the address of a proxy"),
        (
            "",
            &[("HTTPS_PROXY", "socks5://u:hunter2@h")],
            "c.toml: HTTPS_PROXY in the environment: found something else",
        ),
        (
            "",
            &[("HTTPS_PROXY", ""), ("https_proxy", "socks5://u:hunter2@h")],
            "c.toml: https_proxy in the environment: found something else",
        ),
        (
            "",
            &[("HTTPS_PROXY", "http://u:hunter2\u{fffd}@h")],
            "c.toml: HTTPS_PROXY in the environment: found a value that is not UTF-8",
        ),
        (
            "",
            &[("https_proxy", "h"), ("no_proxy", "\u{fffd}")],
            "c.toml: no_proxy in the environment: found a value that is no",
        ),
    ] {
        let problems = proxied(line, variables).unwrap_err();
        assert!(problems.starts_with(expected) && !problems.contains("hunter2"), "{expected} in {problems}");
    }
}
