//! Sinks with authorities and a client certificate of their own.

use std::sync::Arc;

use host_harness::sink::{HttpConfig, Preset, SinkKind};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use source_host::credentials::certificates::{Authorities, authorities};
use source_host::credentials::client_certificate::ClientCertificate;
use tokio_rustls::TlsAcceptor;

use crate::support::deliveries::{Collector, bodies, posting, sink};
use crate::support::receiver::{Receiver, status};

/// An authority, and the certificates that it issues.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trusted(&self) -> Authorities {
        authorities(self.0.pem().as_bytes(), "ca.pem".as_ref()).unwrap()
    }

    /// Issues a certificate to a name, in PEM with its key.
    fn issue(&self, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.signed_by(&key, &self.0).unwrap().pem() + &key.serialize_pem()
    }

    /// Serves as `localhost`, to clients whose certificate is of this authority.
    fn server(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Delivers an event with these certificates to a receiver that asks for one. Returns why it is not delivered.
async fn delivered(authority: &Authority, trusted: Authorities, identity: Option<ClientCertificate>) -> Option<String> {
    let receiver = Receiver::behind(Some(authority.server()), |_, _| status(200)).await;
    let config = HttpConfig { authorities: trusted, identity, ..posting(&receiver.url, Preset::Vector) };
    let collector = Collector::new(&[sink("siem", SinkKind::Http(config))]);
    collector.poll(&["siem"], &bodies("one", 0..1)).await;
    collector.deliveries.flushed().await;
    let why = collector.deliveries.trouble("siem", "contoso").map(|trouble| trouble.why);
    assert_eq!(receiver.lines(), if why.is_none() { bodies("one", 0..1) } else { Vec::new() });
    why
}

#[tokio::test]
async fn a_sink_trusts_its_own_authority_and_shows_its_own_certificate() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let own = || Some(ClientCertificate::read(&ours.issue("collector")).unwrap());
    assert_eq!(delivered(&ours, ours.trusted(), own()).await, None);
    let untrusted = delivered(&ours, Authorities::default(), own()).await.unwrap();
    assert!(untrusted.contains("certificate"), "{untrusted}");
    assert!(delivered(&ours, ours.trusted(), None).await.is_some(), "the receiver asks for a certificate");
    let foreign = Some(ClientCertificate::read(&theirs.issue("collector")).unwrap());
    assert!(delivered(&ours, ours.trusted(), foreign).await.is_some(), "the receiver trusts its own authority alone");
}
