//! Tests each restriction in a thread that then ends, because a thread's restrictions are its own.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use super::*;

/// Runs `tried` in a thread that is confined first.
fn within<T: Send>(confined: impl FnOnce() -> Outcome + Send, tried: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let work = move || {
            let outcome = confined();
            assert_eq!(outcome.missing(), None, "this machine's kernel should have all of it");
            tried()
        };
        scope.spawn(work).join().unwrap()
    })
}

/// The error's number, if there is one.
fn refusal<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

const NOT_PERMITTED: Option<i32> = Some(libc::EPERM);
const ACCESS: Option<i32> = Some(libc::EACCES);

fn reach(state: &Path) -> Reach {
    Reach { write: [state.to_owned()].into(), ports: [0].into(), ..Reach::default() }
}

/// Makes a system call by its number alone.
#[expect(unsafe_code, reason = "a call that no safe function makes is what the filter is for")]
fn call(number: i64, first: i64, second: i64) -> Option<i32> {
    // SAFETY: no argument of these calls is a pointer that the kernel could write to, and the filter refuses each call
    // before it reads one.
    let result = unsafe { libc::syscall(number, first, second, 0, 0, 0) };
    (result < 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

#[test]
fn a_gateway_opens_what_it_needs_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (state, outside) = (dir.path().join("state"), dir.path().join("outside"));
    std::fs::create_dir(&state).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "s").unwrap();
    std::os::unix::fs::symlink(outside.join("secret"), state.join("link")).unwrap();
    within(
        || gateway(&reach(&state)),
        || {
            std::fs::write(state.join("file"), "1").unwrap();
            std::fs::rename(state.join("file"), state.join("other")).unwrap();
            assert_eq!(std::fs::read_to_string(state.join("other")).unwrap(), "1");
            std::fs::remove_file(state.join("other")).unwrap();
            std::os::unix::net::UnixListener::bind(state.join("socket")).unwrap();
            // The resolver and Wasmtime read these files.
            std::fs::read("/etc/hosts").unwrap();
            std::fs::File::open("/proc/self/pagemap").unwrap();
            std::fs::File::open("/dev/urandom").unwrap();
            for outside in [outside.join("secret"), state.join("link"), "/etc/shadow".into(), "/proc/1/environ".into()]
            {
                assert_eq!(refusal(std::fs::read(&outside)), ACCESS, "{}", outside.display());
            }
            assert_eq!(refusal(std::fs::read_dir("/")), ACCESS);
            assert_eq!(refusal(std::fs::write(outside.join("new"), "1")), ACCESS);
            assert_eq!(refusal(std::fs::remove_file(outside.join("secret"))), ACCESS);
            assert_eq!(refusal(std::fs::rename(outside.join("secret"), state.join("mine"))), ACCESS);
            assert_eq!(refusal(std::fs::OpenOptions::new().append(true).open("/etc/hosts")), ACCESS);
        },
    );
    // Only that thread is confined.
    std::fs::read(outside.join("secret")).unwrap();
}

#[test]
fn a_gateway_starts_no_process_and_inspects_none() {
    let dir = tempfile::tempdir().unwrap();
    within(
        || gateway(&reach(dir.path())),
        || {
            assert_eq!(refusal(std::process::Command::new("/proc/self/exe").spawn()), NOT_PERMITTED);
            // Replace this very process.
            let executed = std::os::unix::process::CommandExt::exec(&mut std::process::Command::new("/bin/true"));
            assert_eq!(executed.raw_os_error(), NOT_PERMITTED);
            // A thread is not a process.
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            for number in [
                libc::SYS_ptrace,
                libc::SYS_process_vm_readv,
                libc::SYS_process_vm_writev,
                libc::SYS_bpf,
                libc::SYS_perf_event_open,
                libc::SYS_userfaultfd,
                libc::SYS_keyctl,
                libc::SYS_mount,
                libc::SYS_unshare,
                libc::SYS_finit_module,
                libc::SYS_kexec_load,
                libc::SYS_io_uring_setup,
                libc::SYS_setuid,
                libc::SYS_clone,
            ] {
                assert_eq!(call(number, 0, 0), NOT_PERMITTED, "{number}");
            }
            // The same call for its own pages, and for another process's.
            assert_ne!(call(libc::SYS_process_madvise, -10_000, 0), NOT_PERMITTED);
            assert_eq!(call(libc::SYS_process_madvise, 0, 0), NOT_PERMITTED);
            #[cfg(target_arch = "x86_64")]
            for number in [libc::SYS_fork, libc::SYS_vfork, libc::SYS_mount | 0x4000_0000, 520 | 0x4000_0000] {
                assert_eq!(call(number, 0, 0), NOT_PERMITTED, "{number}");
            }
        },
    );
}

#[test]
fn a_gateway_opens_only_the_sockets_that_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    within(
        || gateway(&reach(dir.path())),
        || {
            TcpStream::connect(("127.0.0.1", port)).unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap();
            TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::ToSocketAddrs::to_socket_addrs("localhost:80").unwrap();
            // A port that the gateway does not listen on.
            assert_eq!(refusal(TcpListener::bind("127.0.0.1:7")), ACCESS);
            let socket = |family: i32, kind: i32| call(libc::SYS_socket, family.into(), kind.into());
            assert_eq!(socket(libc::AF_PACKET, libc::SOCK_RAW), NOT_PERMITTED);
            assert_eq!(socket(libc::AF_INET, libc::SOCK_RAW), NOT_PERMITTED);
            assert_eq!(socket(libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_CLOEXEC), NOT_PERMITTED);
            assert_eq!(socket(libc::AF_VSOCK, libc::SOCK_STREAM), NOT_PERMITTED);
            assert_eq!(socket(libc::AF_ALG, libc::SOCK_SEQPACKET), NOT_PERMITTED);
        },
    );
}

#[test]
fn a_compiling_child_keeps_its_open_files_and_can_open_nothing() {
    let mut open = tempfile::tempfile().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // A real compiling child does this on its main thread.
    within(child, || {
        open.write_all(b"code").unwrap();
        open.set_len(0).unwrap();
        // Memory, and threads of its own.
        assert_eq!(std::thread::spawn(|| vec![7_u8; 64 << 20].len()).join().unwrap(), 64 << 20);
        assert_eq!(refusal(std::fs::read("/etc/hosts")), NOT_PERMITTED);
        assert_eq!(refusal(std::fs::read("/proc/self/status")), NOT_PERMITTED);
        assert_eq!(refusal(std::fs::File::open("/dev/null")), NOT_PERMITTED);
        assert_eq!(refusal(std::fs::write("/tmp/confine-child", "1")), NOT_PERMITTED);
        assert_eq!(refusal(TcpStream::connect(("127.0.0.1", port))), NOT_PERMITTED);
        assert_eq!(refusal(TcpListener::bind("127.0.0.1:0")), NOT_PERMITTED);
        assert_eq!(refusal(UdpSocket::bind("127.0.0.1:0")), NOT_PERMITTED);
        assert_eq!(refusal(std::os::unix::net::UnixStream::pair()), NOT_PERMITTED);
        assert_eq!(refusal(listener.accept()), NOT_PERMITTED);
        let executed = std::os::unix::process::CommandExt::exec(&mut std::process::Command::new("/bin/true"));
        assert_eq!(executed.raw_os_error(), NOT_PERMITTED);
        for number in [libc::SYS_clone, libc::SYS_execveat, libc::SYS_kill, libc::SYS_ptrace, libc::SYS_seccomp] {
            assert_eq!(call(number, 0, 0), NOT_PERMITTED, "{number}");
        }
        let _still_open = open.as_raw_fd();
    });
}

/// Landlock alone, as on a machine where a container takes seccomp away.
#[test]
fn landlock_and_seccomp_hold_without_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let empty = || Outcome {
        landlock: files::restrict(&Rules { files: Vec::new(), ports: Some(Vec::new()), whole: true }),
        seccomp: Ok(()),
    };
    within(empty, || {
        assert_eq!(refusal(std::fs::read("/etc/hosts")), ACCESS);
        assert_eq!(refusal(TcpStream::connect("127.0.0.1:9")), ACCESS);
        assert_eq!(refusal(TcpListener::bind("127.0.0.1:0")), ACCESS);
        let executed = std::os::unix::process::CommandExt::exec(&mut std::process::Command::new("/bin/true"));
        assert_eq!(executed.raw_os_error(), ACCESS);
    });
    within(
        || Outcome { landlock: Ok(99), seccomp: calls::child() },
        || assert_eq!(refusal(std::fs::read_dir(dir.path())), NOT_PERMITTED),
    );
}

#[test]
fn the_outcome_names_what_the_kernel_lacks() {
    let of = |landlock: Result<u32, String>, seccomp: Result<(), String>| Outcome { landlock, seccomp };
    assert_eq!(of(Ok(7), Ok(())).missing(), None);
    assert_eq!(of(Ok(7), Ok(())).had(), "landlock (version 7) and seccomp");
    let old = of(Ok(4), Ok(())).missing().unwrap();
    assert!(old.contains("commands to devices") && old.contains("signals") && !old.contains("a port"), "{old}");
    let none = of(Err("none".to_owned()), Err("none".to_owned()));
    assert_eq!(none.had(), "nothing");
    assert!(none.missing().unwrap().contains("any file can be opened"));
}

#[test]
fn testing_the_kernel_confines_nobody() {
    assert_eq!(ability().missing(), None);
    std::fs::read_dir("/").unwrap();
    std::process::Command::new("/bin/true").status().unwrap();
}
