//! The rules by which Entra ID accepts a client assertion: it is one of another identity provider that the service
//! trusts, or one that a registered certificate signed, by PS256 or RS256, for this application, for this endpoint and
//! for the present time.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Tolerated difference between clocks, in seconds.
const LENIENCE_SECONDS: u64 = 300;

/// Some clients pad, although a JWT has no padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A certificate that is registered with an application.
#[derive(Debug, Clone)]
pub struct Registered {
    sha1: Vec<u8>,
    sha256: Vec<u8>,
    public_key: Vec<u8>,
}

impl Registered {
    /// Reads the first certificate in PEM.
    pub fn read(pem: &str) -> Option<Registered> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let certificate = Certificate::from_der(&der).ok()?;
        let public_key = certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
        Some(Registered {
            sha1: digest(&SHA1_FOR_LEGACY_USE_ONLY, &der).as_ref().to_vec(),
            sha256: digest(&SHA256, &der).as_ref().to_vec(),
            public_key: public_key.to_vec(),
        })
    }
}

/// Returns header and claims of a token; `None` if the text is not a token.
pub fn parts(token: &str) -> Option<(Value, Value)> {
    let mut parts = token.split('.').map(|part| serde_json::from_slice(&BASE64.decode(part).ok()?).ok());
    Some((parts.next()??, parts.next()??))
}

/// Returns the reason why an assertion is not accepted: the AADSTS code, and its text.
pub fn refusal(
    assertion: &str,
    client_id: &str,
    audiences: &[String],
    registered: &[Registered],
    now: u64,
) -> Option<(u32, &'static str)> {
    let Some((header, claims)) = parts(assertion) else {
        return Some((50_027, "JWT token is invalid or malformed."));
    };
    let algorithm: &dyn VerificationAlgorithm = match header["alg"].as_str() {
        Some("PS256") => &RSA_PSS_2048_8192_SHA256,
        Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
        _ => return Some((5_002_738, "Invalid JWT token. Unsupported algorithm.")),
    };
    let thumbprint = |name: &str| header[name].as_str().and_then(|text| BASE64.decode(text).ok());
    let (sha1, sha256) = (thumbprint("x5t"), thumbprint("x5t#S256"));
    if sha1.is_none() && sha256.is_none() {
        return Some((5_002_723, "Invalid JWT token. No certificate thumbprint."));
    }
    let same = |one: &&Registered| {
        sha1.as_ref().is_none_or(|sha1| *sha1 == one.sha1) && sha256.as_ref().is_none_or(|sha256| *sha256 == one.sha256)
    };
    let verified = registered.iter().find(same).is_some_and(|registered| {
        let (signed, signature) = assertion.rsplit_once('.').unwrap_or_default();
        let signature = BASE64.decode(signature).unwrap_or_default();
        UnparsedPublicKey::new(algorithm, &registered.public_key).verify(signed.as_bytes(), &signature).is_ok()
    });
    if !verified {
        return Some((700_027, "Client assertion failed signature validation."));
    }
    // Some clients give fractions of seconds.
    let seconds = |name: &str| claims[name].as_f64().map(|seconds| seconds as u64);
    let begun = ["nbf", "iat"].iter().filter_map(|name| seconds(name)).all(|from| from <= now + LENIENCE_SECONDS);
    if !begun || seconds("exp").is_none_or(|until| until + LENIENCE_SECONDS < now) {
        return Some((700_024, "Client assertion is not within its valid time range."));
    }
    if !audiences.iter().any(|audience| claims["aud"] == **audience) {
        return Some((700_023, "Client assertion audience claim does not match Realm issuer."));
    }
    if claims["iss"] != client_id || claims["sub"] != client_id {
        return Some((700_021, "Client assertion application identifier doesn't match 'client_id' parameter."));
    }
    let id = claims["jti"].as_str().and_then(|id| uuid::Uuid::parse_str(id).ok());
    id.is_none().then_some((50_027, "JWT token is invalid or malformed."))
}
