//! Where secrets come from: files and variables.

use super::*;

#[test]
fn a_secrets_file_that_others_may_read_or_write_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "a-secret-of-tests").unwrap();
    let reference = format!("{{ file = {:?} }}", file.display().to_string());
    let secret = feed("a", "").replace("client_key = \"k\"", &format!("client_secret = {reference}"));
    let sink = format!("[[sink]]\nid = \"s\"\ntype = \"http\"\nurl = \"https://a.example\"\ntoken = {reference}\n");
    let plain = secret.replace(" }\n", ", plain = true }\n");
    for (text, mode, told) in [
        (&secret, 0o666, Some("client_secret: ")),
        (&secret, 0o600, None),
        (&plain, 0o666, None),
        (&format!("{sink}{}", feed("a", "")), 0o664, Some("token: ")),
    ] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let config = read(text, None).unwrap();
        let warnings: Vec<String> = config.warnings.iter().map(ConfigProblem::to_string).collect();
        assert_eq!(warnings.len(), usize::from(told.is_some()), "{warnings:?}");
        let words = format!("{} has the mode {mode:04o}, which lets ", file.display());
        assert!(told.is_none_or(|key| warnings[0].contains(&format!("{key}{words}"))), "{warnings:?}");
    }
}

#[test]
fn a_variable_that_is_no_utf8_is_named_with_the_command_that_converts_it() {
    let text = feed("a", "").replace("client_key = \"k\"", "client_secret = { env = \"SECRET\" }");
    let read = |value: &str| {
        told(parse(Path::new("c.toml"), &text, None, &|name| (name == "SECRET").then(|| value.to_owned())))
    };
    let told = read("hunter2-\u{fffd}").unwrap_err();
    let command = "export SECRET=\"$(printf %s \"$SECRET\" | iconv -f WINDOWS-1252 -t UTF-8)\"";
    assert!(
        told[0].contains("found a value that is not UTF-8 in the variable SECRET") && told[0].ends_with(command),
        "{told:?}"
    );
    assert!(told.len() == 1 && !told[0].contains("hunter2"), "{told:?}");
    assert_eq!(read("\u{feff}hunter2").unwrap().feeds[0].settings.secrets().next().unwrap().expose(), "hunter2");
}
