//! Which of the system's files are read in this process by libraries: the resolver, certificates of CAs, time zones, the
//! standard library and Wasmtime.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files with `.so` in their names that are mapped into this process.
fn mapped() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.get(line.find('/')?..));
    paths.filter(|path| path.ends_with(".so") || path.contains(".so.")).map(PathBuf::from).collect()
}

/// Where shared libraries are, wherever this program was built: those that are mapped now, and the usual places, since the
/// resolver opens more of them later.
pub(super) fn libraries() -> BTreeSet<PathBuf> {
    let usual = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].map(PathBuf::from);
    mapped().iter().filter_map(|file| file.parent()).map(Path::to_owned).chain(usual).collect()
}

/// What the kernel executes when this program is started: its file, and the loader of its libraries.
pub(super) fn program() -> Vec<PathBuf> {
    let is_loader = |file: &PathBuf| file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ld-"));
    mapped().into_iter().filter(is_loader).chain(std::env::current_exe()).collect()
}

/// What the resolver reads of `/etc`. As an ordinary user, all files of it: who changes `/etc/resolv.conf` or `/etc/hosts` puts
/// a new file in its place, to which a rule for the old one does not lead, and modes keep secrets from us. As root there
/// are no such modes, so there are rules for these files alone, and a new one is read after a restart.
pub(super) fn etc() -> Vec<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        return vec![PathBuf::from("/etc")];
    }
    let names = ["resolv.conf", "hosts", "nsswitch.conf", "host.conf", "gai.conf", "services", "protocols"];
    let more = ["ld.so.cache", "localtime", "timezone", "os-release"];
    names.into_iter().chain(more).map(|name| Path::new("/etc").join(name)).collect()
}

/// What libraries read at some time after the start.
pub(super) fn read_by_libraries() -> BTreeSet<PathBuf> {
    let mut paths = libraries();
    let fixed = [
        // This process: its pages (Wasmtime), its maps and control groups (the standard library).
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
        // Answers of the system's resolver and of its cache.
        "/run/systemd/resolve",
        "/run/resolvconf",
        "/run/NetworkManager",
        "/run/nscd",
        // Certificates of CAs, for ACME.
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
    // For the names of functions in a panic's message.
    paths.extend(std::env::current_exe());
    // Where a link leads to, a new file may be put in its place.
    let behind_link = std::fs::canonicalize("/etc/resolv.conf").ok();
    paths
        .extend(behind_link.and_then(|file| file.parent().filter(|dir| *dir != Path::new("/etc")).map(Path::to_owned)));
    paths
}

pub(super) fn devices() -> Vec<PathBuf> {
    ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"].map(PathBuf::from).into()
}
