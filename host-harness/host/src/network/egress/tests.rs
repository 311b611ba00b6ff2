use url::Url;

use super::*;
use crate::contract::{CredentialUse, Place};
use crate::credentials::secret::Secret;

const LOGIN: &str = "https://login.example";
const API: &str = "https://api.example:8443";

fn egress() -> Egress {
    let shape = |method: &str, origin: &str, path: Path, credential: Credential, place: Place| Shape {
        method: method.to_owned(),
        origin: origin.to_owned(),
        path,
        credentials: vec![CredentialUse { credential, place }],
        captures: None,
    };
    let shapes = vec![
        shape(
            "POST",
            LOGIN,
            Path::Exact("/t/token".to_owned()),
            Credential::Setting("key".to_owned()),
            Place::FormField("key".to_owned()),
        ),
        shape("GET", API, Path::Prefix("/a/".to_owned()), Credential::Token, Place::Bearer),
        shape("GET", "https://other.example", Path::Prefix("/".to_owned()), Credential::Token, Place::Bearer),
    ];
    Egress::new(Plan { shapes, warnings: Vec::new() }, Origins::new([LOGIN, API]).unwrap().into())
}

fn sealed() -> Vec<Sealed> {
    let sealed = |placeholder: &str, credential: Credential, secret: &str| Sealed {
        placeholder: placeholder.to_owned(),
        credential,
        secret: Secret::new(secret),
        identity: None,
    };
    vec![
        sealed("sealed-key", Credential::Setting("key".to_owned()), "s&cret"),
        sealed("sealed-token", Credential::Token, "real"),
    ]
}

fn judge(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Result<OutgoingRequest, String> {
    let request = OutgoingRequest {
        method: method.to_owned(),
        url: Url::parse(url).unwrap(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: body.as_bytes().to_vec(),
    };
    egress().judge(url, request, &sealed()).map(|judged| judged.request).map_err(|denial| denial.to_string())
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const BEARER: (&str, &str) = ("authorization", "Bearer sealed-token");

#[test]
fn a_credential_is_put_in_its_declared_place() {
    let request = judge("POST", "https://login.example/t/token", &[FORM], "a=1&key=sealed-key").unwrap();
    assert_eq!(String::from_utf8(request.body).unwrap(), "a=1&key=s%26cret");
    let request = judge("GET", "https://api.example:8443/a/b?c=d", &[BEARER], "").unwrap();
    assert_eq!(request.headers[0].1, "Bearer real");
}

#[test]
fn a_credential_in_any_other_place_stays() {
    for (method, url, headers, body) in [
        ("POST", "https://login.example/t/token", &[FORM][..], "other=sealed-key"),
        ("POST", "https://login.example/t/token", &[FORM], "key=xsealed-key"),
        ("POST", "https://login.example/t/token", &[("content-type", "text/plain")], "key=sealed-key"),
        ("POST", "https://login.example/t/token?x=sealed-key", &[FORM], ""),
        ("POST", "https://login.example/t/token", &[FORM], "key=sealed-token"),
        ("GET", "https://api.example:8443/a/sealed-token", &[BEARER], ""),
        ("GET", "https://api.example:8443/a/b", &[BEARER, ("x-copy", "sealed-token")], ""),
        ("GET", "https://api.example:8443/a/b", &[("x-key", "sealed-key")], ""),
    ] {
        let denied = judge(method, url, headers, body).unwrap_err();
        assert!(denied.contains("is in a place for which it was not declared"), "{url} {body}: {denied}");
    }
    assert!(
        judge("POST", "https://login.example/t/token", &[FORM], "key=sealed-key&key=sealed-key")
            .unwrap_err()
            .contains("twice")
    );
}

#[test]
fn a_request_on_which_the_plugin_wrote_a_credential_itself_stays() {
    let used = |setting: &str, place| CredentialUse { credential: Credential::Setting(setting.to_owned()), place };
    let shape = Shape {
        method: "POST".to_owned(),
        origin: LOGIN.to_owned(),
        path: Path::Exact("/token".to_owned()),
        credentials: vec![
            used("key", Place::FormField("key".to_owned())),
            used("spare", Place::FormField("key".to_owned())),
            used("api", Place::Header("X-Key".to_owned())),
        ],
        captures: None,
    };
    let egress = Egress::new(Plan { shapes: vec![shape], warnings: Vec::new() }, Origins::new([LOGIN]).unwrap().into());
    let judged = |headers: &[(&str, &str)], query: &str, body: &str| {
        let url = format!("https://login.example/token{query}");
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (method, body) = ("POST".to_owned(), body.as_bytes().to_vec());
        let request = OutgoingRequest { method, url: Url::parse(&url).unwrap(), headers, body };
        let judged = egress.judge(&url, request, &sealed());
        judged.map(|judged| judged.is_by_host).map_err(|denial| denial.to_string())
    };
    assert_eq!(judged(&[FORM], "", "a=1&key=sealed-key"), Ok(true), "one of two that may stand there, an empty place");
    assert_eq!(judged(&[FORM, ("x-key", " ")], "", "a=1&key=sealed-key"), Ok(true), "nothing in a place");
    for (headers, query, body, told) in [
        (&[FORM][..], "", "a=1&key=a-guess", "form field key has a value that the plugin wrote itself"),
        (&[FORM, ("x-key", "a-guess")], "", "a=1&key=sealed-key", "header `x-key` has a value that the plugin wrote"),
        (&[], "", "key=a-guess", "not a form with the field key, where a credential was declared"),
        (&[FORM, ("x-api-key", "a")], "", "key=sealed-key", "its header `x-api-key` looks like a credential"),
        (&[FORM, ("proxy-authorization", "a")], "", "", "its header `proxy-authorization` looks like a credential"),
        (&[FORM, ("x-auth-token", "a")], "", "", "its header `x-auth-token` looks like a credential"),
        (&[FORM], "?access_token=a", "key=sealed-key", "its parameter `access_token` looks like a credential"),
        (&[FORM], "?%61PI_key=a", "", "its parameter `aPI_key` looks like a credential"),
        (&[FORM], "?access_token%20=a", "key=sealed-key", "its parameter `access_token ` looks like a credential"),
        (&[FORM], "?x[access_token]=a", "key=sealed-key", "its parameter `x[access_token]` looks like a credential"),
        (&[FORM], "?a=1;X-Amz-Security-Token=a", "", "its parameter `X-Amz-Security-Token` looks like a credential"),
        (&[FORM], "?PHPSESSID=a", "", "its parameter `PHPSESSID` looks like a credential"),
        (&[FORM], "", "key=sealed-key&refresh_token=a", "its parameter `refresh_token` looks like a credential"),
        (&[FORM], "", "key=sealed-key&subject%5Ftoken=a", "its parameter `subject_token` looks like a credential"),
        (&[FORM, ("x-bearer", "a")], "", "key=sealed-key", "its header `x-bearer` looks like a credential"),
        (&[FORM, ("x-anything", "a")], "", "key=sealed-key", "its header `x-anything` may be a credential"),
        (&[FORM, FORM], "", "key=sealed-key", "its header `content-type` stands twice"),
        (&[FORM], "?code=0123456789ab", "key=sealed-key", "its parameter `code` looks like a credential"),
        (&[FORM], "?se=2027&SAS=0123456789ab", "key=sealed-key", "its parameter `SAS` looks like a credential"),
        (&[FORM], "", "key=sealed-key&session=0123456789ab", "its parameter `session` looks like a credential"),
        (&[FORM], "", "a=1", "it has a body, and carries no credential of this call"),
        (&[FORM], "", "a=1&key=", "it has a body, and carries no credential of this call"),
        (&[], "", "", "it does more than read, and carries no credential of this call"),
    ] {
        let denied = judged(headers, query, body).unwrap_err();
        assert!(denied.contains(told), "{body}: {denied}");
    }
    for name in ["idempotency-key", "x-ms-continuation-token", "x-ms-client-request-id", "accept", "if-none-match"] {
        let query = "?$skiptoken=a&pageToken=b&author=c&session=d&access_token=";
        assert_eq!(judged(&[FORM, (name, "a")], query, "key=sealed-key&client_assertion_type=e"), Ok(true), "{name}");
    }
}

/// Every body that may hold a credential where nobody would find it stays, and every name in the others is read.
#[test]
fn a_body_is_a_form_or_json_without_a_credential_of_the_plugins_own() {
    let shape = |method: &str, captures: Option<&str>, place: Option<Place>| Shape {
        method: method.to_owned(),
        origin: API.to_owned(),
        path: Path::Exact("/query".to_owned()),
        credentials: place.map(|place| CredentialUse { credential: Credential::Token, place }).into_iter().collect(),
        captures: captures.map(str::to_owned),
    };
    let judge = |shape: Shape, kind: &str, body: &str| {
        let is_signed = !shape.credentials.is_empty();
        let url = format!("{API}/query");
        let method = shape.method.clone();
        let egress =
            Egress::new(Plan { shapes: vec![shape], warnings: Vec::new() }, Origins::new([API]).unwrap().into());
        let headers = [Some(("content-type", kind)).filter(|_| !kind.is_empty()), is_signed.then_some(BEARER)];
        let headers = headers.into_iter().flatten().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let request = OutgoingRequest { method, url: url.parse().unwrap(), headers, body: body.as_bytes().to_vec() };
        egress.judge(&url, request, &sealed()).map(|_| ()).map_err(|denial| denial.to_string())
    };
    let bearer = || Some(Place::Bearer);
    for (kind, body) in [
        (
            "application/json",
            r#"{"query":"a | where key == 1","options":{"$top":1,"tokens":[],"nextToken":"abcdefghijkl"}}"#,
        ),
        ("application/json; charset=utf-8", r#"[{"key":"name","token":null,"password":"","code":7}]"#),
        ("application/vnd.api+json", "{}"),
        ("", ""),
    ] {
        assert_eq!(judge(shape("POST", None, bearer()), kind, body), Ok(()), "{body}");
    }
    for (kind, body, told) in [
        ("application/json", r#"{"a":[{"access_token":"x"}]}"#, "`access_token` looks like a credential"),
        ("application/json", r#"{"access_token":"x","access_token":""}"#, "`access_token` looks like a credential"),
        ("application/json", r#"{"\u0070assword":["x"]}"#, "`password` looks like a credential"),
        ("application/json", r#"{"credentials":{"a":{"b":7}}}"#, "`credentials` looks like a credential"),
        ("application/x-www-form-urlencoded", "key=0123456789;abcdef", "`key` looks like a credential"),
        ("application/x-www-form-urlencoded", "a=1;access_token=x", "`access_token` looks like a credential"),
        ("application/json", r#"{"key":{"value":"0123456789ab"}}"#, "`key` looks like a credential"),
        ("application/json", r#"{"key":"0123456789ab"}"#, "`key` looks like a credential"),
        ("application/json", "{", "its body as JSON: EOF"),
        ("application/json", "{} access_token=x", "its body as JSON: trailing"),
        ("text/json", "{}", "neither a form nor JSON"),
        ("multipart/form-data; boundary=a", "--a--", "neither a form nor JSON"),
        ("text/xml", "<token>x</token>", "neither a form nor JSON"),
        ("", "token=x", "neither a form nor JSON"),
    ] {
        let denied = judge(shape("POST", None, bearer()), kind, body).unwrap_err();
        assert!(denied.contains(told), "{body}: {denied}");
    }
    assert!(judge(shape("GET", None, bearer()), "application/json", "{}").unwrap_err().contains("a GET with a body"));
    for (shape, told) in [
        (shape("POST", None, None), "it does more than read"),
        (shape("DELETE", None, None), "it does more than read"),
        (shape("GET", Some("access_token"), None), "it asks for a token"),
    ] {
        assert!(judge(shape.clone(), "", "").unwrap_err().contains(told), "{shape:?}");
    }
    assert_eq!(judge(shape("GET", None, None), "", ""), Ok(()));
}

#[test]
fn an_authorization_without_a_live_placeholder_stays() {
    for value in ["Bearer stolen", "Basic sealed-token", "sealed-token", "Bearer sealed-token, Bearer x"] {
        assert!(judge("GET", "https://api.example:8443/a/b", &[("authorization", value)], "").is_err(), "{value}");
    }
    assert!(judge("POST", "https://login.example/t/token", &[FORM, ("authorization", "Bearer x")], "").is_err());
}

#[test]
fn only_declared_shapes_leave() {
    for (method, url) in [
        ("PUT", "https://api.example:8443/a/b"),
        ("GET", "https://api.example:8443/a/"),
        ("GET", "https://api.example:8443/A/b"),
        ("GET", "https://api.example/a/b"),
        ("GET", "http://api.example:8443/a/b"),
        ("GET", "https://api.example.evil.example:8443/a/b"),
        ("GET", "https://api.example.:8443/a/b"),
        ("POST", "https://login.example/t/token/more"),
    ] {
        assert!(judge(method, url, &[], "").unwrap_err().contains("no declared request matches"), "{method} {url}");
    }
}

#[test]
fn odd_spellings_stay_whatever_they_mean() {
    for (url, what) in [
        ("https://user@api.example:8443/a/b", "user name"),
        ("https://api.example:8443/a/../a/b", "dot segment"),
        ("https://api.example:8443/a/%2E%2e/b", "dot segment"),
        ("https://api.example:8443/a/b%2Fc", "encoded slash"),
        ("https://api.example:8443/a/b\\c", "encoded slash"),
        ("https://api.example:8443/a/b#c", "fragment"),
        ("https://@api.example:8443/a/b", "user name"),
        ("https://api.example:8443/a/..;x/b", "dot segment"),
        ("https://api.example:8443/a/%2e%2E%3Bx/b", "dot segment"),
        ("https://api.example:8443/a/%252e%252e/b", "encoded percent"),
        ("https://api.example:8443/a/b%00", "control character"),
        ("https://api.example:08443/a/b", "in another spelling than"),
        ("https://%61pi.example:8443/a/b", "in another spelling than"),
        ("https://ａpi.example:8443/a/b", "in another spelling than"),
    ] {
        assert!(judge("GET", url, &[BEARER], "").unwrap_err().contains(what), "{url}");
    }
}

#[test]
fn an_address_instead_of_a_name_has_one_spelling() {
    let v6 = "http://[::ffff:7f00:1]:8080";
    let origins = Origins::new(["https://127.0.0.1", v6]).unwrap();
    let shape = |origin: &str| Shape {
        method: "GET".to_owned(),
        origin: origin.to_owned(),
        path: Path::Prefix("/a/".to_owned()),
        credentials: Vec::new(),
        captures: None,
    };
    let plan = Plan { shapes: vec![shape("https://127.0.0.1"), shape(v6)], warnings: Vec::new() };
    let egress = Egress::new(plan, origins.into());
    let judge = |url: &str| {
        let (method, headers) = ("GET".to_owned(), Vec::new());
        let request = OutgoingRequest { method, url: Url::parse(url).unwrap(), headers, body: Vec::new() };
        egress.judge(url, request, &[]).map(|_| ()).map_err(|denial| denial.to_string())
    };
    for url in ["https://127.0.0.1/a/b", "https://127.0.0.1:443/a/b", "http://[::ffff:7f00:1]:8080/a/b"] {
        assert_eq!(judge(url), Ok(()), "{url}");
    }
    for host in ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "127.0.0.01", "①27.0.0.1"]
    {
        let told = judge(&format!("https://{host}/a/b")).unwrap_err();
        assert!(told.contains("in another spelling than 127.0.0.1:443"), "{host}: {told}");
    }
    for host in ["[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[::FFFF:7F00:0001]"] {
        assert!(judge(&format!("http://{host}:8080/a/b")).unwrap_err().contains("another spelling"), "{host}");
    }
}

#[test]
fn credentials_go_over_http_to_this_machine_alone_unless_a_line_says_so() {
    let near = ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"];
    let far = ["http://api.example", "http://10.0.0.1", "http://a.localhost"];
    let shape = |origin: &str, credentials: Vec<CredentialUse>| Shape {
        method: "GET".to_owned(),
        origin: origin.to_owned(),
        path: Path::Prefix("/a/".to_owned()),
        credentials,
        captures: None,
    };
    let judge = |origin: &str, origins: &Origins, bearer: bool| {
        let used = CredentialUse { credential: Credential::Token, place: Place::Bearer };
        let credentials = if bearer { vec![used] } else { Vec::new() };
        let plan = Plan { shapes: vec![shape(origin, credentials)], warnings: Vec::new() };
        let url = format!("{origin}/a/b");
        let headers = bearer.then(|| (BEARER.0.to_owned(), BEARER.1.to_owned())).into_iter().collect();
        let request =
            OutgoingRequest { method: "GET".to_owned(), url: url.parse().unwrap(), headers, body: Vec::new() };
        let egress = Egress::new(plan, Arc::new(origins.clone()));
        egress.judge(&url, request, &sealed()).map(|_| ()).map_err(|denial| denial.to_string())
    };
    let allowed = Origins::new(near.into_iter().chain(far)).unwrap();
    let all = allowed.clone().with_credentials_over_http(far).unwrap();
    for origin in near {
        assert_eq!(judge(origin, &allowed, true), Ok(()), "{origin}");
        let proxied = allowed.clone().going(|_| false);
        assert!(judge(origin, &proxied, true).unwrap_err().contains("without TLS"), "{origin}");
    }
    for origin in far {
        let told = judge(origin, &allowed, true).unwrap_err();
        let line = format!("to allow it, write `allow_credentials_over_http = [{origin:?}]` in [network]");
        assert!(told.contains("the token would be sent to ") && told.ends_with(&line), "{told}");
        // A message that offers an origin which nobody allowed says so.
        assert!(judge(origin, &Origins::default(), true).unwrap_err().ends_with(&line), "{origin}");
        assert_eq!(judge(origin, &allowed, false), Ok(()), "{origin}");
        assert_eq!(judge(origin, &all, true), Ok(()), "{origin}");
    }
    let told = judge(near[0], &Origins::default(), true).unwrap_err();
    assert!(told.ends_with(&format!("write `allow = [{:?}]` in [network]", near[0])), "{told}");
}

#[test]
fn headers_that_make_another_request_of_it_stay() {
    for name in [
        "x-http-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-host",
        "forwarded",
        "cookie",
        "range",
    ] {
        let told = judge("GET", "https://api.example:8443/a/b", &[BEARER, (name, "DELETE")], "").unwrap_err();
        assert!(told.contains(name), "{told}");
    }
}

#[test]
fn a_credential_that_was_declared_and_is_not_there_is_told() {
    let judge = |headers: Vec<(String, String)>| {
        let url = "https://api.example:8443/a/b";
        let request =
            OutgoingRequest { method: "GET".to_owned(), url: url.parse().unwrap(), headers, body: Vec::new() };
        let egress = egress();
        let judged = egress.judge(url, request, &sealed()).unwrap();
        (judged.carried.len(), judged.missing.len())
    };
    assert_eq!(judge(vec![(BEARER.0.to_owned(), BEARER.1.to_owned())]), (1, 0));
    assert_eq!(judge(Vec::new()), (0, 1));
}

#[test]
fn a_denial_says_the_line_that_would_allow_it() {
    let denied = judge("GET", "https://other.example/x", &[], "").unwrap_err();
    let line = format!("allow = [{API:?}, {LOGIN:?}, \"https://other.example\"]");
    assert!(denied.ends_with(&format!("to allow it, write `{line}` in [network]")), "{denied}");
    let built_in = Origins::new([API]).unwrap().and(&Origins::new([LOGIN]).unwrap());
    assert_eq!(
        built_in.line_with(["https://x"]),
        format!("allow = [{API:?}, \"https://x\"]"),
        "as the operator wrote it"
    );
    assert_eq!(
        [API, LOGIN, "https://x"].map(|origin| built_in.leave(origin)),
        [Some(Leave::Operator), Some(Leave::BuiltIn), None]
    );
}

#[test]
fn origins_are_exact() {
    assert_eq!(canonical("https://Host.example:443"), Some("https://host.example".to_owned()));
    for origin in [
        "https://host.example/",
        "https://host.example/a",
        "https://u@host.example",
        "ftp://host.example",
        "host.example",
        "https://h?x",
        "https://*.example",
    ] {
        assert_eq!(canonical(origin), None, "{origin}");
    }
}

#[test]
fn a_host_that_can_be_no_name_is_not_read_as_an_address() {
    let label = |of: &str, count: usize| of.repeat(count);
    let name = |count: usize| label("a.", count) + "b";
    for (address, expected) in [
        (format!("https://{}.example", label("a", 63)), true),
        (format!("https://{}.example", label("a", 64)), false),
        (format!("https://{}.example:65535/{}", label("\u{4e00}", 63), label("x", 1_000)), true),
        (format!("https://{}.example", label("\u{4e00}", 64)), false),
        (format!("https://{}", name(126)), true),
        (format!("https://{}.", name(126)), true),
        (format!("https://{}", name(127)), false),
        (format!("https:\\\\{}", name(127)), false),
        (format!("https:{}", name(127)), false),
        (format!("https://{}", name(126).replace('.', "\u{3002}")), true),
        ("https://[2001:db8::1]:8443".to_owned(), true),
        ("/a/path".to_owned(), true),
    ] {
        assert_eq!(has_fitting_name(&address), expected, "{address}");
        assert!(expected || canonical(&address).is_none(), "{address}");
    }
}
