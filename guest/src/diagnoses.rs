//! All failures and notices in one table: code, reaction, cause and fix. The documentation is made from the same table.

use crate::contract::{self, Failure, Notice, Reaction};

/// One row of the table.
#[derive(Debug)]
pub struct Diagnosis {
    /// Kebab-case code of the failure or notice.
    pub code: &'static str,
    /// The reaction that the failure asks of the caller; `None` for a notice.
    pub reaction: Option<Reaction>,
    /// The cause, in one sentence without a full stop.
    pub cause: &'static str,
    /// The step that mends the cause; empty where nothing needs mending. `{client}`, `{tenant}`, `{subscription}` and
    /// `{endpoint}` are replaced by those of the failed call.
    pub fix: &'static str,
}

macro_rules! diagnoses {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reaction:expr, $cause:literal, $fix:literal;)*) => {
        $($(#[$doc])* pub const $name: Diagnosis =
            Diagnosis { code: $code, reaction: $reaction, cause: $cause, fix: $fix };)*
        /// The whole table.
        pub const TABLE: &[Diagnosis] = &[$($name),*];
    };
}

use Reaction::{FixFeed, FixPlugin, FixScope, NoData, RenewToken, StateUnusable, TryLater, Wait};

diagnoses! {
    // Sign-in: the answers of Entra ID.
    /// AADSTS7000215.
    SECRET_INVALID = "secret-invalid", Some(FixFeed), "Entra ID does not accept the client secret",
        "put the secret's Value, not its Secret ID, into `client_secret`; if it is lost: az ad app credential reset --id {client} --append";
    /// AADSTS7000222.
    SECRET_EXPIRED = "secret-expired", Some(FixFeed), "the client secret has expired",
        "create a new secret and put its Value into `client_secret`: az ad app credential reset --id {client} --append";
    /// The host gives this notice, from the date in the settings.
    CREDENTIAL_EXPIRES = "credential-expires", None, "the credential expires soon",
        "create a new credential before that day, and put it and its date into the settings; in the portal: Entra ID, App registrations, the application, Certificates & secrets; or: az ad app credential reset --id {client} --append";
    /// AADSTS7000218 and AADSTS7000216.
    CREDENTIAL_MISSING = "credential-missing", Some(FixFeed), "the request carried no credential",
        "give `client_secret`, `client_certificate` or `federated_token_file` a value that is not empty";
    /// AADSTS700016 and AADSTS700011.
    APPLICATION_NOT_FOUND = "application-not-found", Some(FixFeed), "the tenant has no application with this client id",
        "compare `client_key` with the Application (client) ID and `token_url` with the Directory (tenant) ID on the application's overview page: az ad app show --id {client}";
    /// AADSTS7000229.
    SERVICE_PRINCIPAL_MISSING = "service-principal-missing", Some(FixFeed), "the application has no service principal in the tenant",
        "create it in the tenant: az ad sp create --id {client}";
    /// AADSTS7000112 and AADSTS70001.
    APPLICATION_DISABLED = "application-disabled", Some(FixFeed), "the application is disabled in the tenant",
        "enable it under Entra ID, Enterprise applications, Properties, \"Enabled for users to sign-in\": az ad sp update --id {client} --set accountEnabled=true";
    /// AADSTS90002.
    TENANT_NOT_FOUND = "tenant-not-found", Some(FixFeed), "Entra ID knows no such tenant in this cloud",
        "put the Directory (tenant) ID into `token_url`, and check `cloud`: az account show --query tenantId";
    /// AADSTS900023, AADSTS900021, AADSTS50059, AADSTS50194, AADSTS90019 and AADSTS9001023.
    TENANT_INVALID = "tenant-invalid", Some(FixFeed), "the tenant is neither a GUID nor a domain that Entra ID knows",
        "put the Directory (tenant) ID into `token_url`: az account show --query tenantId";
    /// AADSTS53003, and numbers of 53xxx and 530xxx that have no row of their own.
    CONDITIONAL_ACCESS = "conditional-access", Some(FixFeed), "a Conditional Access policy blocks the application",
        "find the policy in Entra ID's sign-in log of service principals; in Conditional Access, add the collector's outgoing address to a named location that the policy allows, or give this workload identity a policy of its own; exclude the identity from the policy only if neither is possible";
    /// AADSTS53000, AADSTS53001 and AADSTS53002.
    POLICY_OF_DEVICES = "policy-of-devices", Some(FixFeed), "a Conditional Access policy requires a managed device or an approved app, which an application without a user cannot have",
        "find the policy in Entra ID's sign-in log of service principals; in Conditional Access, assign that policy to users, and give workload identities a policy of their own, by location and risk; exclude the identity from the policy only if that is not possible";
    /// AADSTS53011 and AADSTS530034.
    POLICY_OF_RISK = "policy-of-risk", Some(FixFeed), "Entra ID blocks the sign-in because of its risk",
        "in Entra ID, Protection, Risky workload identities, see why {client} is at risk; replace its credential if it leaked, and dismiss the risk if it did not";
    /// AADSTS530035.
    SECURITY_DEFAULTS = "security-defaults", Some(FixFeed), "the security defaults of the tenant block the sign-in",
        "in Entra ID, Properties, Manage security defaults, see what they block; replace them by Conditional Access policies, one of them for workload identities by location, if the collector is to sign in";
    /// AADSTS500021, AADSTS500022 and AADSTS50002.
    TENANT_RESTRICTED = "tenant-restricted", Some(FixFeed), "the network of the collector allows sign-in to certain tenants only",
        "let the proxy that adds the header `Restrict-Access-To-Tenants` allow the tenant {tenant}, or pass the collector's requests without it";
    /// AADSTS700025.
    APPLICATION_PUBLIC = "application-public", Some(FixFeed), "the application is a public client, which must not have a credential",
        "in Entra ID, App registrations, the application, Authentication, set \"Allow public client flows\" to No: az ad app update --id {client} --is-fallback-public-client false";
    /// AADSTS500011, AADSTS50001 and AADSTS650052.
    AUDIENCE_UNKNOWN = "audience-unknown", Some(FixFeed), "the tenant does not know the service that the token is for",
        "check `cloud`, or `audience` where it is given: for the public cloud it is https://management.azure.com";
    /// AADSTS70011, AADSTS700022, AADSTS1002012 and AADSTS901002.
    SCOPE_INVALID = "scope-invalid", Some(FixFeed), "Entra ID does not accept the scope that was asked for",
        "check `audience`: an address without a path, for the public cloud https://management.azure.com";
    /// The host cannot read a certificate or a token file, or finds other content.
    ASSERTION_UNAVAILABLE = "assertion-unavailable", Some(FixFeed), "the host cannot make a signed assertion from the credential",
        "check that the collector can read the credential, and that the content is right: `client_certificate` needs PEM of an RSA key with its certificate, `federated_token_file` a file with the other identity provider's token";
    /// AADSTS700024 and AADSTS500133.
    ASSERTION_TIME = "assertion-time", Some(FixFeed), "the signed assertion is not valid at this time",
        "set the collector's clock by NTP, or renew the federated token";
    /// AADSTS700021.
    ASSERTION_CLIENT = "assertion-client", Some(FixFeed), "the signed assertion names another application",
        "compare `client_key` with the application that the credential belongs to: az ad app show --id {client}";
    /// AADSTS700023.
    ASSERTION_AUDIENCE = "assertion-audience", Some(FixFeed), "the signed assertion is for another token endpoint",
        "check `token_url` and `cloud`: an assertion is made for the token endpoint of the tenant that it is sent to";
    /// AADSTS1000502.
    CERTIFICATE_NOT_VALID = "certificate-not-valid", Some(FixFeed), "the certificate that signed is expired, or is not valid yet",
        "give `client_certificate` a certificate that is valid now, and upload that certificate: az ad app credential reset --id {client} --cert @certificate.pem --append; if it is valid, set the collector's clock by NTP";
    /// AADSTS7000214 and AADSTS7000277.
    CERTIFICATE_REVOKED = "certificate-revoked", Some(FixFeed), "the certificate that signed was revoked by its authority",
        "ask the authority why; give `client_certificate` a new one, with a new key, and upload it: az ad app credential reset --id {client} --cert @certificate.pem --append";
    /// AADSTS700030 and AADSTS50012.
    CERTIFICATE_NOT_AUTHORIZED = "certificate-not-authorized", Some(FixFeed), "the subject or the issuer of the certificate that signed is not authorized for the application",
        "compare its subject and issuer with those that the application trusts, and its cloud with `cloud`: openssl x509 -in certificate.pem -noout -subject -issuer; or upload the certificate itself: az ad app credential reset --id {client} --cert @certificate.pem --append";
    /// AADSTS700027.
    ASSERTION_UNREGISTERED = "assertion-unregistered", Some(FixFeed), "the certificate that signed is not registered with the application",
        "upload the certificate: az ad app credential reset --id {client} --cert @certificate.pem --append";
    /// AADSTS7000274 and AADSTS5000811.
    ASSERTION_SIGNATURE = "assertion-signature", Some(FixFeed), "the signature of the assertion does not match the key that the assertion names",
        "for a certificate: check that `client_certificate` holds the private key of the uploaded certificate; for a federated token: check that one of the issuer's current keys signed the token in the file; the issuer publishes them under /.well-known/openid-configuration";
    /// AADSTS50027.
    ASSERTION_MALFORMED = "assertion-malformed", Some(FixFeed), "the assertion is not a JSON Web Token that Entra ID can read",
        "put the other identity provider's token into the file of `federated_token_file`, whole and with nothing else; a token has three parts with dots between them";
    /// AADSTS5002723.
    ASSERTION_THUMBPRINT = "assertion-thumbprint", Some(FixFeed), "the signed assertion does not say which certificate signed it",
        "upgrade the collector: its assertions name the certificate in `x5t#S256`";
    /// AADSTS5002738.
    ASSERTION_ALGORITHM = "assertion-algorithm", Some(FixFeed), "the assertion is signed with an algorithm that Entra ID does not accept",
        "use an RSA certificate";
    /// AADSTS700213, AADSTS70021, AADSTS700211, AADSTS700212 and AADSTS70025.
    FEDERATION_MISMATCH = "federation-mismatch", Some(FixFeed), "no federated credential of the application matches the token",
        "compare issuer, subject and audience of the token with: az ad app federated-credential list --id {client}";
    /// AADSTS700222, AADSTS700236, AADSTS700238 and AADSTS7002381.
    FEDERATION_ISSUER = "federation-issuer", Some(FixFeed), "tokens of this issuer may not be used for a federated credential in the tenant",
        "use a token of another identity provider, such as the Kubernetes cluster's or the CI system's own; a token that Entra ID itself issued is not accepted; ask the tenant's administrators which issuers and claims the tenant's policy allows";
    /// AADSTS65001, AADSTS90094 and AADSTS90095.
    CONSENT_MISSING = "consent-missing", Some(FixFeed), "nobody with the right to consent has consented to the application in the tenant",
        "let an administrator of the tenant {tenant} consent in Entra ID, Enterprise applications, the application, Permissions: az ad app permission admin-consent --id {client}; if the application is not there: az ad sp create --id {client}";
    /// AADSTS500014.
    RESOURCE_DISABLED = "resource-disabled", Some(FixFeed), "the service that the token is for is disabled in the tenant",
        "in Entra ID, Enterprise applications, enable Windows Azure Service Management API: az ad sp update --id 797f4846-ba00-4fd7-ba43-dac1f8f63013 --set accountEnabled=true";
    /// AADSTS501051.
    ASSIGNMENT_MISSING = "assignment-missing", Some(FixFeed), "the service that the token is for requires an assignment, and the application has none",
        "in Entra ID, Enterprise applications, Windows Azure Service Management API, Properties, set \"Assignment required?\" to No, or give the application a role there";
    /// AADSTS900382, AADSTS900432, AADSTS900439, AADSTS90051 and AADSTS90038.
    CLOUD_MISMATCH = "cloud-mismatch", Some(FixFeed), "the tenant is in another cloud",
        "set `cloud` to the cloud of the tenant";
    /// AADSTS50196.
    TOKEN_LOOP = "token-loop", Some(Wait), "Entra ID received too many identical requests in five minutes",
        "look for other collectors that use this application; no other step is needed";
    /// AADSTS90055 and HTTP 429 of the token endpoint.
    TOKEN_THROTTLED = "token-throttled", Some(Wait), "Entra ID receives too many requests", "";
    /// AADSTS90006, AADSTS90012, AADSTS90024, AADSTS90033, AADSTS90090, AADSTS90091, AADSTS50033, and HTTP 5xx of the token
    /// endpoint with an error of its own.
    TOKEN_UNAVAILABLE = "token-unavailable", Some(TryLater), "Entra ID is temporarily unavailable", "";
    /// The token is empty, has spaces or controls, is not a bearer token, or has expired.
    TOKEN_UNUSABLE = "token-unusable", Some(TryLater), "Entra ID answered with a token that no request can use",
        "check whether a proxy or a gateway answers in place of {endpoint}; if none does, report it to the service";
    /// Any other refusal of the token endpoint.
    TOKEN_REFUSED = "token-refused", Some(FixFeed), "Entra ID refuses the sign-in",
        "look the AADSTS code up: https://login.microsoftonline.com/error";

    // The API: the answers of Azure Resource Manager.
    /// HTTP 401 with an error of the service.
    TOKEN_EXPIRED = "token-expired", Some(RenewToken), "the service does not accept the token",
        "compare `cloud`, or `audience` where it is given, with the cloud of the subscription";
    /// HTTP 401 that challenges for a token but lacks the error that Azure Resource Manager gives.
    TOKEN_CHALLENGED = "token-challenged", Some(RenewToken), "the answer asks for a token, but has no error of the service itself",
        "check whether a proxy or a gateway answers in place of {endpoint}; if none does, compare `cloud`, or `audience` where it is given, with the cloud of the subscription";
    /// HTTP 401 with a challenge for claims, `insufficient_claims`, and TokenCreatedWithOutdatedPolicies.
    CLAIMS_CHALLENGE = "claims-challenge", Some(RenewToken), "the service asks for a token that satisfies a policy or a revocation (continuous access evaluation)",
        "in Entra ID, see the service principal's sign-in log; let the Conditional Access policies for workload identities allow the collector's outgoing address, and see that the service principal is enabled and not at risk: az ad sp show --id {client} --query accountEnabled";
    /// InvalidAuthenticationTokenTenant.
    WRONG_TENANT = "wrong-tenant", Some(FixScope), "the subscription belongs to another tenant",
        "put the subscription's own tenant into `token_url`: az account show --subscription {subscription} --query tenantId";
    /// AuthorizationFailed.
    FORBIDDEN = "forbidden", Some(FixScope), "the application may not read secure scores of the subscription",
        "az role assignment create --assignee {client} --role \"Security Reader\" --scope /subscriptions/{subscription}";
    /// InvalidSubscriptionId.
    SUBSCRIPTION_INVALID = "subscription-invalid", Some(FixScope), "the subscription id is malformed",
        "put the Subscription ID into `subscription_id`: az account list --query \"[].id\"";
    /// SubscriptionNotFound.
    NOT_FOUND = "not-found", Some(FixScope), "there is no such subscription in this cloud",
        "compare `subscription_id` with: az account list --query \"[].id\"; and check `cloud`";
    /// InvalidResourceType, InvalidApiVersionParameter and their like.
    API_RETIRED = "api-retired", Some(FixPlugin), "the service no longer offers this version of its interface",
        "upgrade the plugin";
    /// ResourceNotFound, or both lists empty.
    NOT_ONBOARDED = "not-onboarded", Some(NoData), "Defender for Cloud has no secure score for the subscription yet",
        "open Microsoft Defender for Cloud, Environment settings, and enable Foundational CSPM for the subscription; the first score takes up to a day";
    /// The score's maximum is 0.
    NOTHING_ASSESSED = "nothing-assessed", Some(NoData), "Defender for Cloud found no resource to assess in the subscription", "";
    /// DisabledSubscription and its like, and with `"*"` the states Disabled and Deleted.
    DISABLED = "disabled", Some(FixScope), "the subscription is not enabled",
        "re-enable it in the portal under Subscriptions, or take it out of `subscription_id`; with \"*\", list it in `exclude_subscriptions`";
    /// MissingSubscriptionRegistration.
    NOT_REGISTERED = "not-registered", Some(FixScope), "the subscription is not registered for Microsoft.Security",
        "az provider register --namespace Microsoft.Security --subscription {subscription}";
    /// The host gives this failure for a scope that it polled before.
    NO_LONGER_DISCOVERED = "no-longer-discovered", Some(FixScope), "the application no longer sees the subscription",
        "if it still exists: az role assignment create --assignee {client} --role Reader --scope /subscriptions/{subscription}";
    /// `"*"` without a result. The service answered, so that scopes of earlier searches are no longer discovered.
    NO_SUBSCRIPTIONS = "no-subscriptions", Some(FixScope), "the application can read no subscription of the tenant",
        "az role assignment create --assignee {client} --role Reader --scope /subscriptions/YOUR-SUBSCRIPTION-ID";
    /// `"*"` with a result that the settings exclude completely; other scopes of earlier searches are no longer
    /// discovered.
    ALL_EXCLUDED = "all-excluded", Some(FixScope), "`exclude_subscriptions` names every subscription of the tenant that the application can read",
        "remove one from `exclude_subscriptions`, or let the application read another: az role assignment create --assignee {client} --role Reader --scope /subscriptions/YOUR-SUBSCRIPTION-ID";
    /// The service refuses the list itself, whatever the answer says. A person may have to act, but scopes of earlier
    /// searches must be neither lost nor held up, so that the search is only retried.
    LIST_REFUSED = "list-refused", Some(TryLater), "the service refuses the list of subscriptions",
        "find out who refuses it, by the code and the request id; or name the subscriptions in `subscription_id`";
    /// HTTP 429.
    THROTTLED = "throttled", Some(Wait), "the service receives too many requests", "";
    /// HTTP 5xx with an error of the service.
    SERVICE_UNAVAILABLE = "service-unavailable", Some(TryLater), "the service has a temporary fault", "";
    /// Any other refusal of the API with an error of its own.
    REFUSED = "refused", Some(FixScope), "the service refuses the request",
        "look up the service's code; the service's support needs the request id";

    // Unusable answers.
    /// Any status without the service's own error, and 200 with an HTML page or without a mark of the service.
    NOT_THE_SERVICE = "not-the-service", Some(TryLater), "something else answered in place of the service, such as a proxy, a firewall, a gateway or a login page",
        "run curl -i {endpoint} on the collector's machine to see whose answer it is; let that proxy or firewall pass the collector's requests, or give the proxy, with user and password if it asks for them, in the host's configuration";
    /// HTTP 201 to 299.
    STATUS_UNEXPECTED = "status-unexpected", Some(TryLater), "the answer has a success status under which the service sends neither a list nor a token",
        "check whether a proxy or a gateway answers in place of {endpoint}";
    /// The body is empty, cut off, not UTF-8, or nested too deeply.
    ANSWER_NOT_JSON = "answer-not-json", Some(FixPlugin), "the answer is not the JSON that was expected",
        "check whether a proxy answers in place of {endpoint}";
    /// A required part is absent.
    ANSWER_INCOMPLETE = "answer-incomplete", Some(FixPlugin), "the answer lacks a required part",
        "keep the answer and report it to the authors of the plugin";
    /// A part has the wrong type.
    ANSWER_WRONG_TYPE = "answer-wrong-type", Some(FixPlugin), "a value in the answer does not have the expected type",
        "keep the answer and report it to the authors of the plugin";
    /// An item's id or type does not belong to the requested subscription or list.
    ANSWER_FOREIGN = "answer-foreign", Some(FixPlugin), "the answer holds items of another subscription or another list",
        "no part of the answer was used: check whether a cache or a gateway in front of {endpoint} mixes up answers; keep the answer and report it to the service";
    /// A link leaves the list that it continues.
    LINK_REFUSED = "link-refused", Some(FixPlugin), "the link to the next page cannot be followed",
        "do not follow it; keep the answer and report it to the service";
    /// HTTP 3xx. Neither Entra ID nor Azure Resource Manager redirects, but login pages of networks do.
    REDIRECTED = "redirected", Some(TryLater), "the answer is a redirect, which the host does not follow",
        "check whether a proxy or a login page of the network answers in place of {endpoint}";
    /// The body exceeds the host's limit.
    ANSWER_TOO_LARGE = "answer-too-large", Some(FixPlugin), "the answer is larger than the host allows",
        "keep the request id and report it to the service";

    // The route to the service.
    /// The host denies the request.
    REQUEST_DENIED = "request-denied", Some(FixFeed), "the host does not allow the request",
        "allow the origin in the host's configuration";
    /// The host does not dial the address.
    ADDRESS_PROHIBITED = "address-prohibited", Some(FixFeed), "the name resolves to an address that the host does not connect to",
        "if the service is meant to have a private address, allow the address in the host's configuration";
    /// The name has no address.
    NAME_NOT_RESOLVED = "name-not-resolved", Some(TryLater), "the name of the service does not resolve",
        "check the spelling of the address and the collector's DNS";
    /// No server listens, or a firewall refuses.
    CONNECTION_REFUSED = "connection-refused", Some(TryLater), "the connection was refused",
        "check that the collector can reach {endpoint} on this port";
    /// The host's proxy is unreachable, or refuses the host.
    PROXY_FAILED = "proxy-failed", Some(TryLater), "the host's proxy does not connect to the service",
        "check the proxy's address, user and password in the host's configuration, and that it lets {endpoint} through";
    /// The connection ended early.
    CONNECTION_BROKEN = "connection-broken", Some(TryLater), "the connection ended before the answer did", "";
    /// There is no answer in time.
    TIMEOUT = "timeout", Some(TryLater), "there was no answer in time",
        "check that the collector can reach {endpoint}, directly or through its proxy";
    /// TLS fails: unknown CA, wrong name, or expired certificate.
    TLS_UNTRUSTED = "tls-untrusted", Some(TryLater), "the certificate of the service is not trusted",
        "if a proxy inspects TLS, give its CA in the host's configuration; else check the address and the clock";
    /// Any other fault of the transport.
    TRANSPORT = "transport", Some(TryLater), "the request failed on the way", "";

    // This plugin.
    /// The settings are invalid, which `prepare` would have reported.
    SETTINGS_INVALID = "settings-invalid", Some(FixFeed), "the settings are not valid", "correct the settings as `prepare` says";
    /// A scope or a cursor does not come from this plugin.
    ARGUMENT_INVALID = "argument-invalid", Some(FixPlugin), "the host passed an argument that did not come from this plugin",
        "report it to the authors of the host";
    /// The state has another format.
    STATE_UNREADABLE = "state-unreadable", Some(StateUnusable), "the state of the previous poll cannot be read",
        "use the version of the plugin that wrote it, or remove the state of this scope to start afresh";

    // Notices.
    /// The service refuses `$expand=definition`.
    EXPANSION_REFUSED = "expansion-refused", None, "the service refused to expand definitions", "";
    /// One of the two lists is empty.
    LIST_EMPTY = "list-empty", None, "one of the lists is empty", "";
    /// An item appears twice.
    ITEM_REPEATED = "item-repeated", None, "the service sent an item twice; the first one counts", "";
    /// The controls do not add up to the score.
    SUM_MISMATCH = "sum-mismatch", None, "the controls do not add up to the score", "";
    /// An event was cut.
    EVENT_TRUNCATED = "event-truncated", None, "an event was cut to the size limit", "";
    /// Subscriptions of other tenants were left out.
    DELEGATED_LEFT_OUT = "delegated-left-out", None, "subscriptions of other tenants were left out", "set `delegated = true` to include them";
    /// An excluded subscription does not exist.
    EXCLUSION_UNUSED = "exclusion-unused", None, "an excluded subscription was not found", "remove it from `exclude_subscriptions`";
}

/// The AADSTS numbers of Entra ID that have a diagnosis.
pub const ENTRA_CODES: &[(u32, &Diagnosis)] = &[
    (7_000_215, &SECRET_INVALID),
    (7_000_222, &SECRET_EXPIRED),
    (7_000_218, &CREDENTIAL_MISSING),
    (7_000_216, &CREDENTIAL_MISSING),
    (700_016, &APPLICATION_NOT_FOUND),
    (700_011, &APPLICATION_NOT_FOUND),
    (7_000_229, &SERVICE_PRINCIPAL_MISSING),
    (7_000_112, &APPLICATION_DISABLED),
    (70_001, &APPLICATION_DISABLED),
    (700_025, &APPLICATION_PUBLIC),
    (90_002, &TENANT_NOT_FOUND),
    (900_023, &TENANT_INVALID),
    (900_021, &TENANT_INVALID),
    (50_059, &TENANT_INVALID),
    (50_194, &TENANT_INVALID),
    (90_019, &TENANT_INVALID),
    (9_001_023, &TENANT_INVALID),
    (500_021, &TENANT_RESTRICTED),
    (500_022, &TENANT_RESTRICTED),
    (50_002, &TENANT_RESTRICTED),
    (53_000, &POLICY_OF_DEVICES),
    (53_001, &POLICY_OF_DEVICES),
    (53_002, &POLICY_OF_DEVICES),
    (53_003, &CONDITIONAL_ACCESS),
    (53_011, &POLICY_OF_RISK),
    (530_034, &POLICY_OF_RISK),
    (530_035, &SECURITY_DEFAULTS),
    (500_011, &AUDIENCE_UNKNOWN),
    (50_001, &AUDIENCE_UNKNOWN),
    (650_052, &AUDIENCE_UNKNOWN),
    (500_014, &RESOURCE_DISABLED),
    (501_051, &ASSIGNMENT_MISSING),
    (65_001, &CONSENT_MISSING),
    (90_094, &CONSENT_MISSING),
    (90_095, &CONSENT_MISSING),
    (70_011, &SCOPE_INVALID),
    (700_022, &SCOPE_INVALID),
    (1_002_012, &SCOPE_INVALID),
    (901_002, &SCOPE_INVALID),
    (700_024, &ASSERTION_TIME),
    (500_133, &ASSERTION_TIME),
    (7_000_274, &ASSERTION_SIGNATURE),
    (5_000_811, &ASSERTION_SIGNATURE),
    (50_027, &ASSERTION_MALFORMED),
    (700_021, &ASSERTION_CLIENT),
    (700_023, &ASSERTION_AUDIENCE),
    (1_000_502, &CERTIFICATE_NOT_VALID),
    (7_000_214, &CERTIFICATE_REVOKED),
    (7_000_277, &CERTIFICATE_REVOKED),
    (700_030, &CERTIFICATE_NOT_AUTHORIZED),
    (50_012, &CERTIFICATE_NOT_AUTHORIZED),
    (700_027, &ASSERTION_UNREGISTERED),
    (5_002_723, &ASSERTION_THUMBPRINT),
    (5_002_738, &ASSERTION_ALGORITHM),
    (700_213, &FEDERATION_MISMATCH),
    (70_021, &FEDERATION_MISMATCH),
    (700_211, &FEDERATION_MISMATCH),
    (700_212, &FEDERATION_MISMATCH),
    (70_025, &FEDERATION_MISMATCH),
    (700_222, &FEDERATION_ISSUER),
    (700_236, &FEDERATION_ISSUER),
    (700_238, &FEDERATION_ISSUER),
    (7_002_381, &FEDERATION_ISSUER),
    (900_382, &CLOUD_MISMATCH),
    (900_432, &CLOUD_MISMATCH),
    (90_038, &CLOUD_MISMATCH),
    (90_051, &CLOUD_MISMATCH),
    (900_439, &CLOUD_MISMATCH),
    (50_196, &TOKEN_LOOP),
    (90_055, &TOKEN_THROTTLED),
    (90_006, &TOKEN_UNAVAILABLE),
    (90_012, &TOKEN_UNAVAILABLE),
    (90_024, &TOKEN_UNAVAILABLE),
    (90_033, &TOKEN_UNAVAILABLE),
    (90_090, &TOKEN_UNAVAILABLE),
    (90_091, &TOKEN_UNAVAILABLE),
    (50_033, &TOKEN_UNAVAILABLE),
];

/// Returns the diagnosis of an AADSTS number; `None` where `error` and status must decide.
pub fn of_entra(number: u32) -> Option<&'static Diagnosis> {
    let row = ENTRA_CODES.iter().find(|(known, _)| *known == number).map(|row| row.1);
    // New numbers for policies are in these ranges.
    row.or_else(|| matches!(number, 53_000..=53_999 | 530_000..=530_999).then_some(&CONDITIONAL_ACCESS))
}

/// The page on which Microsoft explains the numbers.
pub const ENTRA_PAGE: &str = "https://login.microsoftonline.com/error";

/// The codes of Azure Resource Manager and of its provider Microsoft.Security, in lower case.
pub const ARM_CODES: &[(&str, &Diagnosis)] = &[
    ("invalidauthenticationtokentenant", &WRONG_TENANT),
    ("tokencreatedwithoutdatedpolicies", &CLAIMS_CHALLENGE),
    ("authorizationfailed", &FORBIDDEN),
    ("invalidsubscriptionid", &SUBSCRIPTION_INVALID),
    ("subscriptionnotfound", &NOT_FOUND),
    ("invalidresourcetype", &API_RETIRED),
    ("noregisteredproviderfound", &API_RETIRED),
    ("invalidapiversionparameter", &API_RETIRED),
    ("resourcenotfound", &NOT_ONBOARDED),
    ("missingsubscriptionregistration", &NOT_REGISTERED),
    ("disabledsubscription", &DISABLED),
    ("expiredauthenticationtoken", &TOKEN_EXPIRED),
    ("invalidauthenticationtoken", &TOKEN_EXPIRED),
    ("authenticationfailed", &TOKEN_EXPIRED),
    ("subscriptionrequeststhrottled", &THROTTLED),
    ("toomanyrequests", &THROTTLED),
    ("ratelimiting", &THROTTLED),
    ("internalservererror", &SERVICE_UNAVAILABLE),
    ("serviceunavailable", &SERVICE_UNAVAILABLE),
    ("servertimeout", &SERVICE_UNAVAILABLE),
    ("gatewaytimeout", &SERVICE_UNAVAILABLE),
    ("readonlydisabledsubscription", &DISABLED),
];

impl Diagnosis {
    /// Makes a failure of this kind; `detail` names the place and the value found there.
    pub fn failure(&self, detail: &str) -> Failure {
        Failure {
            reaction: self.reaction.unwrap_or(FixPlugin),
            wait_seconds: None,
            code: self.code.to_owned(),
            cause: if detail.is_empty() { self.cause.to_owned() } else { format!("{}: {detail}", self.cause) },
            fix: (!self.fix.is_empty()).then(|| self.fix.to_owned()),
            status: None,
            service_code: None,
            request_id: None,
        }
    }

    /// Makes a notice of this kind.
    pub fn notice(&self, detail: &str) -> Notice {
        Notice { code: self.code.to_owned(), message: format!("{}: {detail}", self.cause) }
    }
}

/// Converts the table to the contract's type.
pub fn table() -> Vec<contract::Diagnosis> {
    TABLE
        .iter()
        .map(|row| contract::Diagnosis {
            code: row.code.to_owned(),
            cause: row.cause.to_owned(),
            fix: row.fix.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_in_kebab_case() {
        let mut codes: Vec<_> = TABLE.iter().map(|row| row.code).collect();
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), TABLE.len());
    }

    #[test]
    fn the_contract_gets_the_whole_table() {
        let rows = table();
        let words = rows.iter().map(|row| (row.code.as_str(), row.cause.as_str(), row.fix.as_str()));
        assert!(words.eq(TABLE.iter().map(|row| (row.code, row.cause, row.fix))));
    }

    #[test]
    fn a_policy_is_mended_before_anything_is_excluded_from_it() {
        for row in TABLE.iter().filter(|row| row.cause.contains("policy") && row.fix.contains("exclude")) {
            let place = |word: &str| row.fix.find(word).unwrap_or(usize::MAX);
            assert!(place("exclude") > place("named location").min(place("of their own")), "{}", row.code);
        }
    }

    #[test]
    fn what_a_person_must_mend_says_how() {
        for row in TABLE.iter().filter(|row| matches!(row.reaction, Some(FixFeed | FixScope | FixPlugin))) {
            assert!(!row.fix.is_empty(), "{}", row.code);
        }
    }
}
