use super::failure::retry_after_seconds;
use super::*;
use crate::contract::Reaction;
use crate::json::ValuePath;

fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Response { status, headers, body: body.as_bytes().to_vec() }
}

fn of_arm(response: &Response) -> Failure {
    arm(Call::to_arm(&Settings::sample(), "the page", Some("s")), response)
}

fn of_entra(response: &Response) -> Failure {
    entra(Call::to_entra(&Settings::sample(), "the token endpoint"), response)
}

fn arm_code(status: u16, body: &str) -> String {
    of_arm(&response(status, &[], body)).code
}

fn entra_code(status: u16, body: &str) -> String {
    of_entra(&response(status, &[], body)).code
}

#[test]
fn an_error_is_read_in_either_case_wrapped_or_bare() {
    for body in [
        r#"{"error":{"code":"SubscriptionNotFound","message":"m"}}"#,
        r#"{"Error":{"Code":"SubscriptionNotFound","Message":"m"}}"#,
        r#"{"Code":"SubscriptionNotFound","Message":"m"}"#,
        r#"{"code":"subscriptionnotfound"}"#,
    ] {
        assert_eq!(arm_code(404, body), "not-found", "{body}");
    }
}

/// Bodies that neither Entra ID nor Azure Resource Manager writes.
const FOREIGN: &[&str] = &[
    "",
    "<!DOCTYPE html><h2>The request is blocked.</h2>",
    "Forbidden",
    "\"AuthorizationFailed\"",
    "[{\"error\":{\"code\":\"AuthorizationFailed\"}}]",
    "{}",
    r#"{"message":"Forbidden"}"#,
    r#"{"error":"Forbidden","message":"not here","path":"/","status":403}"#,
    r#"{"error":"forbidden","error_description":"blocked by policy"}"#,
    r#"{"error":{"code":403,"message":"Forbidden","status":"PERMISSION_DENIED"}}"#,
    r#"{"error":{"code":"403","message":"Forbidden"}}"#,
    r#"{"error":{"message":"Forbidden"}}"#,
    r#"{"error":{"code":""}}"#,
    r#"{"error":null}"#,
    r#"{"statusCode":401,"message":"Access denied due to missing subscription key."}"#,
    r#"{"fault":{"code":900901,"message":"Invalid Credentials"}}"#,
    r#"{"error":{"code":"AuthorizationFailed","message":"cut he"#,
];

#[test]
fn without_the_services_own_error_somebody_else_answered() {
    for status in [400, 401, 403, 404, 407, 409, 418, 451, 500, 502, 503, 504, 520] {
        for body in FOREIGN {
            let answer = response(status, &[("content-type", "text/html; charset=utf-8")], body);
            for failure in [of_arm(&answer), of_entra(&answer)] {
                assert_eq!(failure.code, "not-the-service", "{status} {body}");
                assert_eq!(failure.reaction, Reaction::TryLater);
                assert_eq!((failure.status, failure.service_code), (Some(status), None));
            }
        }
    }
}

#[test]
fn the_error_of_one_service_is_none_of_the_other() {
    assert_eq!(arm_code(403, r#"{"error":"invalid_client","error_codes":[7000215]}"#), "not-the-service");
    assert_eq!(entra_code(403, r#"{"error":{"code":"AuthorizationFailed"}}"#), "not-the-service");
}

#[test]
fn who_answered_is_told_in_a_few_words() {
    let long = "x".repeat(1_000);
    let page = "<html>a page that nobody has to read</html>";
    let cause = |headers: &[(&str, &str)], body: &str| of_arm(&response(403, headers, body)).cause;
    for (headers, body, end) in [
        (
            &[("content-type", "text/html; charset=utf-8"), ("server", "Gate\"way\n"), ("via", "1.1 proxy")][..],
            page,
            "the page answered 403 with text/html, server \"Gate\\\"way\", via \"1.1 proxy\"",
        ),
        (&[], page, "answered 403 with a body of no stated type"),
        (&[("content-type", "text/html")], "", "answered 403 with an empty body"),
        (&[("server", &long)], page, &format!("server \"{}\"", &long[..64])),
    ] {
        let cause = cause(headers, body);
        assert!(cause.ends_with(end), "{cause}");
        assert!(!cause.contains("nobody has to read"));
    }
    let entra = of_entra(&response(403, &[], page));
    assert!(entra.fix.is_some_and(|fix| fix.contains("curl -i https://login.microsoftonline.com ")));
    let arm = of_arm(&response(403, &[], page));
    assert!(arm.fix.is_some_and(|fix| fix.contains("curl -i https://management.azure.com ")));
}

#[test]
fn whoever_asks_to_wait_is_obeyed() {
    for (status, code) in [(429, ["throttled", "token-throttled"]), (503, ["not-the-service"; 2])] {
        for body in FOREIGN {
            let answer = response(status, &[("retry-after", "90")], body);
            let failures = [of_arm(&answer), of_entra(&answer)];
            assert_eq!(failures.each_ref().map(|failure| failure.wait_seconds), [Some(90); 2]);
            assert_eq!(failures.map(|failure| failure.code), code);
        }
    }
}

#[test]
fn a_challenge_renews_the_token_whoever_wrote_the_body() {
    let own = r#"{"error":{"code":"InvalidAuthenticationToken"}}"#;
    let claims = "Bearer realm=\"\", error=\"insufficient_claims\", claims=\"e30=\"";
    for (challenge, body, code, service_code) in [
        ("Basic realm=\"x\", bearer realm=\"y\"", "<html>", "token-challenged", None),
        ("Bearer", "", "token-challenged", None),
        ("Bearer", own, "token-expired", Some("InvalidAuthenticationToken")),
        ("Basic realm=\"x\"", own, "token-expired", Some("InvalidAuthenticationToken")),
        (claims, own, "claims-challenge", Some("InvalidAuthenticationToken")),
        (claims, "", "claims-challenge", Some("insufficient_claims")),
    ] {
        let failure = of_arm(&response(401, &[("www-authenticate", challenge)], body));
        assert_eq!((failure.code.as_str(), failure.reaction), (code, Reaction::RenewToken), "{challenge} {body}");
        assert_eq!(failure.service_code.as_deref(), service_code, "{challenge} {body}");
    }
    let other = of_arm(&response(401, &[("www-authenticate", "Negotiate")], "<html>"));
    assert_eq!(other.code, "not-the-service");
    let tenant = r#"{"error":{"code":"InvalidAuthenticationTokenTenant"}}"#;
    assert_eq!(of_arm(&response(401, &[("www-authenticate", "Bearer")], tenant)).code, "wrong-tenant");
}

#[test]
fn the_services_own_error_goes_by_its_status_where_its_code_is_not_known() {
    for (status, code) in [
        (400, "refused"),
        (401, "token-expired"),
        (403, "forbidden"),
        (404, "refused"),
        (408, "service-unavailable"),
        (500, "service-unavailable"),
        (504, "service-unavailable"),
    ] {
        assert_eq!(arm_code(status, r#"{"error":{"code":"NovelCode","message":"m"}}"#), code, "{status}");
        let short = response(status, &[("x-ms-request-id", "r")], r#"{"error":{"code":"Novel","message":"m"}}"#);
        assert_eq!(of_arm(&short).code, code, "{status}");
    }
    let bare = r#"{"Code":"400","Message":"m","Target":null}"#;
    assert_eq!(of_arm(&response(400, &[("x-ms-request-id", "r")], bare)).code, "refused");
    assert_eq!(arm_code(400, bare), "not-the-service");
    let number = r#"{"error":{"code":403,"message":"m"}}"#;
    let failure = of_arm(&response(403, &[("x-ms-request-id", "r")], number));
    assert_eq!((failure.code.as_str(), failure.service_code.as_deref()), ("forbidden", Some("403")));
    assert_eq!(arm_code(403, number), "not-the-service");
}

#[test]
fn json_of_a_gateway_is_nobodys_refusal() {
    for code in ["access_denied", "rest_forbidden", "ERR_ACCESS_DENIED", "POLICY_VIOLATION", "Forbidden", "blocked"] {
        for status in [400, 401, 403, 404, 407] {
            assert_eq!(arm_code(status, &format!(r#"{{"error":{{"code":"{code}"}}}}"#)), "not-the-service");
            assert_eq!(arm_code(status, &format!(r#"{{"code":"{code}","message":"m"}}"#)), "not-the-service");
        }
    }
    for error in ["access_denied", "invalid_request", "invalid_client"] {
        let body = format!(r#"{{"error":"{error}","error_description":"The gateway refuses."}}"#);
        assert_eq!(entra_code(403, &body), "not-the-service");
    }
    assert_eq!(entra_code(403, r#"{"error":"blocked","error_codes":[403]}"#), "not-the-service");
    // These statuses come from a proxy, whatever the body says.
    for status in [407, 511] {
        assert_eq!(arm_code(status, r#"{"error":{"code":"ProxyAuthRequired"}}"#), "not-the-service");
        assert_eq!(entra_code(status, r#"{"error":"a","error_codes":[7000215]}"#), "not-the-service");
    }
}

#[test]
fn somebody_else_may_ask_to_wait_for_a_status_that_says_so_and_no_other() {
    let wait = |status| of_arm(&response(status, &[("retry-after", "7200")], "<html>")).wait_seconds;
    assert_eq!([429, 503, 403, 404, 500].map(wait), [Some(7200), Some(7200), None, None, None]);
}

#[test]
fn a_success_of_another_kind_is_tried_later() {
    for status in [201, 202, 203, 204, 206, 207, 226, 299] {
        for body in ["", "<html>", r#"{"value":[]}"#, r#"{"error":{"code":"AuthorizationFailed"}}"#] {
            for failure in [of_arm(&response(status, &[], body)), of_entra(&response(status, &[], body))] {
                assert_eq!((failure.code.as_str(), failure.reaction), ("status-unexpected", Reaction::TryLater));
            }
        }
    }
}

#[test]
fn a_byte_order_mark_before_an_error_hides_nothing() {
    let marked = |body: &str| format!("\u{feff}{body}");
    assert_eq!(arm_code(404, &marked(r#"{"error":{"code":"SubscriptionNotFound"}}"#)), "not-found");
    let body = marked(r#"{"error":"invalid_client","error_codes":[7000222]}"#);
    assert_eq!(entra_code(401, &body), "secret-expired");
}

#[test]
fn each_code_of_azure_resource_manager_has_its_words() {
    for (code, diagnosis) in diagnoses::ARM_CODES {
        assert_eq!(arm_code(404, &format!(r#"{{"error":{{"code":"{code}"}}}}"#)), diagnosis.code);
    }
}

#[test]
fn a_server_fault_is_nobodys_to_mend_whatever_it_says() {
    assert_eq!(arm_code(503, r#"{"error":{"code":"AuthorizationFailed"}}"#), "service-unavailable");
    assert_eq!(arm_code(429, r#"{"Code":"429","Message":"wait"}"#), "throttled");
}

#[test]
fn each_number_of_entra_has_its_words() {
    for (number, diagnosis) in diagnoses::ENTRA_CODES {
        let body = format!(r#"{{"error":"invalid_client","error_codes":[{number}]}}"#);
        assert_eq!(entra_code(400, &body), diagnosis.code, "{number}");
    }
    for number in [53_004, 53_099, 530_031] {
        let body = format!(r#"{{"error":"invalid_grant","error_codes":[{number}]}}"#);
        assert_eq!(entra_code(400, &body), "conditional-access", "{number}");
    }
}

#[test]
fn a_number_is_told_with_the_page_that_explains_it() {
    let fix = |number: u32| {
        let body = format!(r#"{{"error":"invalid_client","error_codes":[{number}]}}"#);
        of_entra(&response(401, &[], &body)).fix.unwrap()
    };
    assert_eq!(fix(99_999), "look the AADSTS code up: https://login.microsoftonline.com/error?code=99999");
    for (number, _) in diagnoses::ENTRA_CODES.iter().filter(|(_, diagnosis)| !diagnosis.fix.is_empty()) {
        let page = format!("; more about it: https://login.microsoftonline.com/error?code={number}");
        assert!(fix(*number).ends_with(&page), "{number}");
    }
    let unnumbered = of_entra(&response(400, &[], r#"{"error":"invalid_client","trace_id":"t"}"#));
    assert!(unnumbered.fix.is_some_and(|fix| fix.ends_with("https://login.microsoftonline.com/error")));
}

#[test]
fn an_unknown_number_goes_by_status_and_error() {
    for (status, error, code) in [
        (400, "invalid_client", "token-refused"),
        (400, "temporarily_unavailable", "token-unavailable"),
        (503, "anything", "token-unavailable"),
        (429, "anything", "token-throttled"),
    ] {
        let body = format!(r#"{{"error":"{error}","error_codes":[99999]}}"#);
        assert_eq!(entra_code(status, &body), code, "{status} {error}");
    }
    assert_eq!(entra_code(200, "<html>"), "not-the-service");
    assert_eq!(
        entra_code(400, r#"{"error":"invalid_client","error_description":"AADSTS7000222: Expired."}"#),
        "secret-expired"
    );
}

#[test]
fn a_failure_carries_what_the_service_said() {
    let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid.\r\nTrace ID: t","error_codes":[7000215],"trace_id":"t"}"#;
    let failure = of_entra(&response(401, &[("retry-after", "17")], body));
    assert_eq!(failure.reaction, Reaction::FixFeed);
    assert_eq!(failure.service_code.as_deref(), Some("AADSTS7000215"));
    assert_eq!(failure.request_id.as_deref(), Some("t"));
    assert_eq!(failure.wait_seconds, Some(17));
    assert!(failure.cause.ends_with("the token endpoint answered 401 invalid_client, \"AADSTS7000215: Invalid.\""));
    assert!(failure.fix.is_some_and(|fix| fix.contains(&Settings::sample().client_id)));
}

#[test]
fn a_refusal_of_the_api_carries_code_and_message_and_status() {
    let body = r#"{"error":{"code":"Novel","message":"Not today."}}"#;
    let failure = of_arm(&response(404, &[("x-ms-request-id", "r")], body));
    assert_eq!((failure.code.as_str(), failure.status), ("refused", Some(404)));
    assert_eq!((failure.service_code.as_deref(), failure.request_id.as_deref()), (Some("Novel"), Some("r")));
    assert!(failure.cause.ends_with("the page answered 404 Novel, \"Not today.\""), "{}", failure.cause);
}

#[test]
fn a_redirect_is_named_with_where_it_leads() {
    let redirect = response(302, &[("location", "https://proxy.example/")], "");
    for failure in [of_entra(&redirect), of_arm(&redirect)] {
        assert_eq!((failure.code.as_str(), failure.reaction), ("redirected", Reaction::TryLater));
        assert!(failure.cause.ends_with("answered 302 to https://proxy.example/"), "{}", failure.cause);
    }
    let moved = response(400, &[("location", "https://proxy.example/")], "");
    assert!(!of_arm(&moved).cause.contains("proxy.example"));
}

#[test]
fn too_many_equal_requests_wait_as_long_as_they_are_counted() {
    let waits = |number: u32, headers: &[(&str, &str)]| {
        let body = format!(r#"{{"error":"invalid_request","error_codes":[{number}]}}"#);
        of_entra(&response(400, headers, &body)).wait_seconds
    };
    assert_eq!(waits(50_196, &[]), Some(300));
    assert_eq!(waits(50_196, &[("retry-after", "17")]), Some(17));
    assert_eq!(waits(90_055, &[]), None);
}

#[test]
fn a_good_answer_that_is_none_says_what_is_wrong_with_it() {
    let code = |path: &str, wrong_type: bool| {
        let fault = Fault { path: path.to_owned(), found: "x".to_owned(), expected: "y".to_owned(), wrong_type };
        let signed = response(200, &[("x-ms-request-id", "r")], "");
        not_understood(Call::to_arm(&Settings::sample(), "the page", Some("s")), &signed, &fault).code
    };
    assert_eq!(code("", false), "answer-not-json");
    assert_eq!(code("value", true), "answer-wrong-type");
    assert_eq!(code("value", false), "answer-incomplete");
}

#[test]
fn a_page_for_people_is_nobody_elses_list() {
    let fault = Fault::document("HTML or XML", "a JSON object");
    let failure = |headers: &[(&str, &str)], body: &str| {
        not_understood(Call::to_arm(&Settings::sample(), "the page", Some("s")), &response(200, headers, body), &fault)
    };
    for (headers, body) in [
        (&[][..], "\u{feff} <html>"),
        (&[("content-type", "text/html")], "Sign in"),
        (&[("content-type", "image/png")], "\u{89}PNG"),
    ] {
        let failure = failure(headers, body);
        assert_eq!((failure.code.as_str(), failure.reaction), ("not-the-service", Reaction::TryLater));
        assert!(failure.cause.ends_with("found HTML or XML, expected a JSON object"), "{}", failure.cause);
    }
    for kind in ["application/json", "text/json; charset=utf-8", "application/problem+JSON", ""] {
        let headers = [("content-type", kind), ("x-ms-request-id", "r")];
        assert_eq!(failure(&headers, "{\"value\":").code, "answer-not-json", "{kind}");
    }
}

fn unfit_code(call: Call<'_>, headers: &[(&str, &str)], body: &str) -> String {
    not_understood(call, &response(200, headers, body), &Fault::unfit(&ValuePath::Root.key("value"), None, "a list"))
        .code
}

#[test]
fn json_without_a_mark_of_the_service_is_somebody_elses() {
    let settings = Settings::sample();
    let calls = [Call::to_arm(&settings, "the page", Some("s")), Call::to_entra(&settings, "the token endpoint")];
    for call in calls {
        for (kind, body) in [
            ("application/captive+json", r#"{"captive":true,"user-portal-url":"https://portal.example"}"#),
            ("application/json", "{}"),
            ("application/json", ""),
            ("application/json", r#"{"error":"Forbidden"}"#),
            ("application/json", r#"{"error":{"code":403,"message":"Forbidden"}}"#),
            ("text/plain", "sign in first"),
            ("", "sign in first"),
        ] {
            assert_eq!(unfit_code(call, &[("content-type", kind)], body), "not-the-service", "{body}");
        }
        for header in ["x-ms-request-id", "x-ms-correlation-request-id"] {
            assert_eq!(unfit_code(call, &[(header, "r")], "{}"), "answer-incomplete", "{header}");
        }
    }
    assert_eq!(unfit_code(calls[0], &[], r#"{"value":{}}"#), "answer-incomplete");
    assert_eq!(unfit_code(calls[1], &[], r#"{"access_token":""}"#), "answer-incomplete");
    assert_eq!(unfit_code(calls[0], &[], r#"{"Value":{}}"#), "answer-incomplete", "in any letter case");
    assert_eq!(unfit_code(calls[1], &[], r#"{"Access_Token":""}"#), "answer-incomplete", "in any letter case");
}

#[test]
fn an_error_of_the_service_goes_by_its_code_though_its_status_is_200() {
    let settings = Settings::sample();
    let arm = |code: &str| {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        unfit_code(Call::to_arm(&settings, "the page", Some("s")), &[], &body)
    };
    for (code, expected) in [
        ("AuthorizationFailed", "forbidden"),
        ("SubscriptionNotFound", "not-found"),
        ("SubscriptionRequestsThrottled", "throttled"),
        ("InternalServerError", "service-unavailable"),
        ("ExpiredAuthenticationToken", "token-expired"),
        ("NovelRefusal", "refused"),
    ] {
        assert_eq!(arm(code), expected, "{code}");
    }
    let entra = |body: &str| {
        let answer = response(200, &[], body);
        let call = Call::to_entra(&settings, "the token endpoint");
        not_understood(call, &answer, &Fault::unfit(&ValuePath::Root.key("access_token"), None, "a string"))
    };
    let failure = entra(r#"{"error":"invalid_client","error_codes":[7000215],"trace_id":"t"}"#);
    assert_eq!((failure.code.as_str(), failure.service_code.as_deref()), ("secret-invalid", Some("AADSTS7000215")));
    assert_eq!(entra(r#"{"error":"invalid_client","trace_id":"t"}"#).code, "token-refused");
    assert_eq!(entra(r#"{"error":"temporarily_unavailable","trace_id":"t"}"#).code, "token-unavailable");
}

#[test]
fn what_the_service_wrote_is_cut_and_stays_on_one_line() {
    let long = "é\\n".repeat(5_000);
    for body in [
        format!(r#"{{"error":"{long}","error_description":"{long}","trace_id":"{long}"}}"#),
        format!(r#"{{"code":"{long}","message":"{long}"}}"#),
    ] {
        let response = response(302, &[("location", &long), ("x-ms-request-id", &long)], &body);
        for failure in [of_entra(&response), of_arm(&response)] {
            let words = [Some(failure.cause), failure.service_code, failure.request_id];
            for words in words.into_iter().flatten() {
                assert!(words.chars().count() < 1_000, "{} bytes", words.len());
                assert!(!words.contains('\n'));
            }
        }
    }
}

#[test]
fn a_date_to_wait_for_counts_from_the_answers_own_date() {
    let headers = [("retry-after", "Mon, 23 Nov 2026 10:00:30 GMT"), ("date", "Mon, 23 Nov 2026 10:00:00 GMT")];
    assert_eq!(retry_after_seconds(&response(429, &headers, "")), Some(30));
    assert_eq!(retry_after_seconds(&response(429, &headers[..1], "")), None);
    assert_eq!(retry_after_seconds(&response(429, &[("retry-after", "86400")], "")), Some(86_400));
}
