use super::*;
use crate::store::{Kind, Prefix, Settings, Tls};

fn host(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn id(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

fn change(of: &str, from: From, to: Option<&str>) -> Change {
    Change { host: host(of), from, to: to.map(id) }
}

fn store(dir: &Path) -> Arc<Store> {
    let settings = Settings {
        kind: Kind::Embedded(dir.to_owned()),
        prefix: Prefix::default(),
        timeout: Duration::from_secs(5),
        share_rates: false,
        tenant_users: None,
        tls: Tls::default(),
    };
    Arc::new(Store::open(&settings, Arc::new(Metrics::default())).unwrap())
}

#[tokio::test]
async fn a_note_outlives_the_process_and_changes_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("store"));
    let open = || Owners::open(Some(dir.path()), Arc::clone(&store)).unwrap();
    let owners = open();
    let first = [change("a.example", From::Nobody, Some("a")), change("*.a.example", From::Nobody, Some("a"))];
    assert!(owners.note(&first).await);
    assert!(!owners.note(&[change("a.example", From::Nobody, Some("b"))]).await, "it is somebody's");
    assert!(!owners.note(&[change("a.example", From::Tenant(id("c")), Some("b"))]).await, "it is somebody else's");
    let again = open();
    assert_eq!(*again.noted(), BTreeMap::from([(host("a.example"), id("a")), (host("*.a.example"), id("a"))]));
    assert!(again.note(&[change("a.example", From::Tenant(id("a")), Some("b"))]).await);
    assert!(again.note(&[change("*.a.example", From::Whoever, None)]).await);
    assert_eq!(*open().noted(), BTreeMap::from([(host("a.example"), id("b"))]));
}

#[test]
fn an_edited_file_loses_no_other_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hosts"), "# words\na.example a\nnonsense\nB.Example. b\nc.example Not_A_Name\n")
        .unwrap();
    let noted = file::read(&file::path(dir.path())).unwrap();
    assert_eq!(noted, BTreeMap::from([(host("a.example"), id("a")), (host("b.example"), id("b"))]));
}
