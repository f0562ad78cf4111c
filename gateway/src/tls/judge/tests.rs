use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::*;
use crate::tls::Pair;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn root(name: &str) -> Ca {
    CertifiedIssuer::self_signed(ca_params(name), KeyPair::generate().unwrap()).unwrap()
}

fn below(name: &str, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = ca_params(name);
    change(&mut params);
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
}

/// A server certificate and its key.
fn leaf(issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> [String; 2] {
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    [params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem()]
}

fn judged(chain: &str, key: &str) -> Pair {
    Pair::parse(chain.as_bytes(), key.as_bytes()).unwrap()
}

/// The kinds of doubt about a chain.
fn kinds(pair: &Pair) -> Vec<&'static str> {
    let kind = |doubt: &Doubt| match doubt {
        Doubt::Usage(_) => "usage",
        Doubt::Chain(_) => "chain",
        Doubt::Issuer(_) => "issuer",
        Doubt::Differs(_) => "differs",
    };
    pair.verdict.doubts.iter().map(kind).collect()
}

#[test]
fn a_chain_is_built_as_clients_build_it() {
    let (root, other) = (root("root"), root("another root"));
    let middle = below("middle", &root, |_| {});
    // The same name, but not the same key.
    let namesake = below("middle", &other, |_| {});
    let [cert, key] = leaf(&middle, |_| {});
    let of = |more: &[&Ca]| judged(&(cert.clone() + &more.iter().map(|ca| ca.pem()).collect::<String>()), &key);
    assert_eq!(kinds(&of(&[&middle])), Vec::<&str>::new());
    assert_eq!(kinds(&of(&[&middle, &root])), Vec::<&str>::new());
    assert_eq!(kinds(&of(&[])), ["issuer"]);
    assert_eq!(kinds(&of(&[&root])), ["chain"], "the one between is missing");
    assert_eq!(kinds(&of(&[&namesake])), ["chain"]);
    assert_eq!(kinds(&of(&[&namesake, &middle])), ["differs"], "clients find the right one, some in order only");
    assert_eq!(kinds(&of(&[&root, &middle])), ["differs"]);
    let twice = judged(&(cert.clone() + &middle.pem()), &key);
    assert!(twice.verdict.has_issuer_of(&of(&[]).verdict) && !of(&[]).verdict.has_issuer_of(&twice.verdict));
    // A client that has the root accepts what leads to it.
    let known = Roots::with(root.pem().as_bytes()).unwrap();
    assert!(
        of(&[&middle]).is_known_to(&known)
            && !of(&[]).is_known_to(&known)
            && !of(&[&middle]).is_known_to(&Roots::default())
    );
    let [direct, its_key] = leaf(&root, |_| {});
    assert!(judged(&direct, &its_key).is_known_to(&known));
    assert!(Roots::with(b"nothing").is_err());
}

#[test]
fn blocks_that_are_glued_together_are_counted() {
    let root = root("root");
    let middle = below("middle", &root, |_| {});
    let [cert, key] = leaf(&middle, |_| {});
    let glued = cert.trim_end().to_owned() + &middle.pem();
    assert!(glued.contains("----------BEGIN"));
    assert_eq!(kinds(&judged(&glued, &key))[0], "chain");
}

#[test]
fn a_certificate_must_be_for_servers() {
    let root = root("root");
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let [cert, key] = leaf(&root, change);
        kinds(&judged(&(cert + &root.pem()), &key))
    };
    assert_eq!(
        with(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        Vec::<&str>::new()
    );
    assert_eq!(with(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]), ["usage"]);
    assert_eq!(with(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any])[0], "differs");
    assert_eq!(with(&|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]), Vec::<&str>::new());
    assert_eq!(with(&|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment])[0], "differs");
    assert_eq!(with(&|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]), ["usage"]);
}

#[test]
fn a_chain_is_valid_while_all_of_it_is_valid() {
    let root = root("root");
    let middle = below("middle", &root, |params| params.not_after = date_time_ymd(2030, 1, 1));
    let [cert, key] = leaf(&middle, |params| params.not_before = date_time_ymd(2020, 1, 1));
    let pair = judged(&(cert + &middle.pem() + &root.pem()), &key);
    assert_eq!(
        (pair.verdict.good[0], pair.ends()),
        (date_time_ymd(2020, 1, 1).into(), date_time_ymd(2030, 1, 1).into())
    );
    assert!(pair.not_after > pair.ends());
    let at = |year| SystemTime::from(date_time_ymd(year, 6, 1));
    assert_eq!([2019, 2026, 2031].map(|year| pair.verdict.is_good(at(year))), [false, true, false]);
    // An issuer that expired before its leaf began makes the chain invalid at all times.
    let old = below("old", &root, |params| params.not_after = date_time_ymd(2010, 1, 1));
    let [cert, key] = leaf(&old, |params| params.not_before = date_time_ymd(2020, 1, 1));
    let never = judged(&(cert + &old.pem()), &key);
    assert!(!never.verdict.is_good(at(2026)) && kinds(&never) == ["chain"]);
}
