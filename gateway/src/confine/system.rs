//! The system's files that libraries read in this process: the resolver, CA certificates, time zones, the standard library
//! and Wasmtime.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files with `.so` in their names that are mapped into this process.
fn mapped() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.get(line.find('/')?..));
    paths.filter(|path| path.ends_with(".so") || path.contains(".so.")).map(PathBuf::from).collect()
}

/// Folders of shared libraries, wherever this program was built: those of the mapped libraries, and the usual places,
/// because the resolver opens more libraries later.
pub(super) fn libraries() -> BTreeSet<PathBuf> {
    let usual = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].map(PathBuf::from);
    mapped().iter().filter_map(|file| file.parent()).map(Path::to_owned).chain(usual).collect()
}

/// What the kernel executes when this program starts: its file, and the loader of its libraries.
pub(super) fn program() -> Vec<PathBuf> {
    let is_loader = |file: &PathBuf| file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ld-"));
    mapped().into_iter().filter(is_loader).chain(std::env::current_exe()).collect()
}

/// What the resolver reads of `/etc`. For an ordinary user this is the whole folder: tools replace `/etc/resolv.conf` and
/// `/etc/hosts` by new files, which a rule for the old file does not cover, and file modes protect the secrets there. File
/// modes do not bind root, so root gets rules for these files alone, and a replaced file is read only after a restart.
pub(super) fn etc() -> Vec<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        return vec![PathBuf::from("/etc")];
    }
    let names = ["resolv.conf", "hosts", "nsswitch.conf", "host.conf", "gai.conf", "services", "protocols"];
    let more = ["ld.so.cache", "localtime", "timezone", "os-release"];
    names.into_iter().chain(more).map(|name| Path::new("/etc").join(name)).collect()
}

/// Files that libraries read at some time after the start.
pub(super) fn read_by_libraries() -> BTreeSet<PathBuf> {
    let mut paths = libraries();
    let fixed = [
        // This process: its pages (Wasmtime), its memory maps and control groups (the standard library).
        "/proc/self",
        "/proc/swaps",
        "/proc/meminfo",
        "/proc/cpuinfo",
        "/proc/stat",
        "/proc/sys/vm",
        "/proc/sys/net",
        "/sys/fs/cgroup",
        "/sys/devices/system",
        "/sys/kernel/mm",
        // The system resolver's answers and its cache.
        "/run/systemd/resolve",
        "/run/resolvconf",
        "/run/NetworkManager",
        "/run/nscd",
        // CA certificates, for ACME.
        "/etc/ssl/certs",
        "/etc/ssl/cert.pem",
        "/etc/pki",
        "/etc/ca-certificates",
        "/usr/share/ca-certificates",
        "/usr/local/share/ca-certificates",
        "/usr/share/zoneinfo",
    ];
    paths.extend(fixed.map(PathBuf::from));
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os);
    paths.extend(named.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>()));
    // Function names for the message of a panic.
    paths.extend(std::env::current_exe());
    // A tool may replace the file that a link leads to.
    let behind_link = std::fs::canonicalize("/etc/resolv.conf").ok();
    paths
        .extend(behind_link.and_then(|file| file.parent().filter(|dir| *dir != Path::new("/etc")).map(Path::to_owned)));
    paths
}

pub(super) fn devices() -> Vec<PathBuf> {
    ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"].map(PathBuf::from).into()
}
