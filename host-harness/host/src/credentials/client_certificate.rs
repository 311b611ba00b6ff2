//! The certificate and the private key with which a client proves to a server who it is (mutual TLS).

use std::fmt;
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::credentials::certificates::{self, KeyKind, Root, STRANGERS};

/// A client's certificate with its private key. Two are equal if their certificates are: a certificate belongs to one
/// key.
#[derive(Clone)]
pub struct ClientCertificate {
    key: Arc<CertifiedKey>,
    /// The certificate that belongs to the key.
    pub own: Root,
}

/// The content that was found in place of a private key and its certificate; it shows nothing of either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnfitClientCertificate(pub String);

impl ClientCertificate {
    /// Reads PEM with one private key (PKCS#8, PKCS#1 or SEC 1), its certificate, and further ones of the chain, in any
    /// order.
    pub fn read(pem: &str) -> Result<ClientCertificate, UnfitClientCertificate> {
        let unfit = |found: &str| UnfitClientCertificate(found.to_owned());
        let parts = certificates::parts(pem);
        let (kind, der) = certificates::private_key(pem, &parts).map_err(UnfitClientCertificate)?;
        if parts.iter().filter(|part| part.is_key()).count() > 1 {
            return Err(unfit("several private keys"));
        }
        let key = match kind {
            KeyKind::Pkcs8 => PrivateKeyDer::Pkcs8(der.to_vec().into()),
            KeyKind::Pkcs1 => PrivateKeyDer::Pkcs1(der.to_vec().into()),
            KeyKind::Ec => PrivateKeyDer::Sec1(der.to_vec().into()),
        };
        let key = rustls::crypto::ring::sign::any_supported_type(&key);
        let key =
            key.map_err(|_| unfit("a private key that cannot be used, which is damaged or of another algorithm"))?;
        let chain = certificates::chain(&parts).map_err(UnfitClientCertificate)?;
        for (index, own) in chain.iter().enumerate() {
            let others = chain.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, der)| der);
            let chain = std::iter::once(own).chain(others).map(|der| CertificateDer::from(der.to_vec())).collect();
            let key = CertifiedKey::new(chain, Arc::clone(&key));
            match key.keys_match() {
                Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => continue,
                Err(_) => return Err(unfit("a certificate that cannot be read")),
                Ok(()) => {}
            }
            let own = certificates::root(own).ok_or_else(|| unfit("a certificate that cannot be read"))?;
            return Ok(ClientCertificate { key: Arc::new(key), own: own.map_err(UnfitClientCertificate)? });
        }
        Err(unfit(STRANGERS))
    }

    /// The answer to a server that asks for a certificate.
    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.key)))
    }
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &ClientCertificate) -> bool {
        self.key.cert == other.key.cert
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ClientCertificate").field(&self.own.subject).finish()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn pair(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_key_and_its_certificate_are_found_in_any_order_and_among_others() {
        let ((own, key), (other, _)) = (pair("collector"), pair("CA"));
        for pem in [own.clone() + &key, key.clone() + &own, key.clone() + &other + &own, other.clone() + &own + &key] {
            let identity = ClientCertificate::read(&pem).unwrap();
            assert!(identity.own.subject.contains("collector"), "{identity:?}");
            assert_eq!(identity.key.cert.len(), pem.matches("BEGIN CERTIFICATE").count());
            assert!(!format!("{identity:?}").contains("Key"), "{identity:?}");
        }
        assert_eq!(ClientCertificate::read(&(own.clone() + &key)), ClientCertificate::read(&(key.clone() + &own)));
        assert_ne!(
            ClientCertificate::read(&(own.clone() + &key)),
            ClientCertificate::read(&(pair("collector").0 + &key))
        );
    }

    #[test]
    fn what_is_no_key_with_its_certificate_is_named() {
        let ((own, key), (other, strange)) = (pair("collector"), pair("CA"));
        let damaged = key.replacen("MI", "AA", 1);
        let encrypted = key.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE");
        for (pem, found) in [
            (own.clone(), "no private key among its parts"),
            (key.clone(), "a private key without its certificate"),
            (key.clone() + &other, STRANGERS),
            (own.clone() + &key + &strange, "several private keys"),
            (own.clone() + &damaged, "a private key that cannot be used, which is damaged or of another algorithm"),
            (own.clone() + &encrypted, "a private key that is encrypted"),
            (own.clone() + &key[..80], "a private key that is cut off or not base64"),
            (key.clone() + &own[..80], "a certificate that is cut off or not base64"),
            ("s~ecret8".to_owned(), "no PEM"),
            (String::new(), "no PEM"),
        ] {
            assert_eq!(ClientCertificate::read(&pem).unwrap_err().to_string(), found);
        }
    }
}
