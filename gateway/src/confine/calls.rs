//! The system calls that seccomp filters refuse.
//!
//! The gateway and its helper lose the calls on a list, none of which they make. A list of allowed calls would not do for
//! them: they contain four libraries of three vendors, whose next versions may make other calls. A compiling child may only
//! make the calls on a list: it computes, and all its files are already open. A refused call returns EPERM, so that the
//! caller reports it in its own words.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// Inspecting other processes and the kernel.
const LOOKING: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // io_uring reads, writes and connects without passing a seccomp filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Changing the machine, its file systems, or the process's own identity.
const CHANGING: &[i64] = &[
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_personality,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_capset,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
];

#[cfg(target_arch = "x86_64")]
const CHANGING_HERE: &[i64] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_mknod,
    libc::SYS_uselib,
];
#[cfg(not(target_arch = "x86_64"))]
const CHANGING_HERE: &[i64] = &[];

/// Executing another program.
const EXECUTING: &[i64] = &[libc::SYS_execve, libc::SYS_execveat];

/// Creating processes by other calls than `clone`.
#[cfg(target_arch = "x86_64")]
const FORKING: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKING: &[i64] = &[];

/// Calls that create or need a new socket. Open sockets can still be read and written.
const NETWORKING: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_accept,
];

/// Computation, memory, own threads, and files that are already open.
const COMPUTING: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_close,
    libc::SYS_fcntl,
    // The image of a component's memory. The child only inspects it.
    libc::SYS_memfd_create,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrusage,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Its arguments are in memory, where no filter can read them. Without it, libc calls `clone`.
const CLONE_UNSEEN: &[i64] = &[libc::SYS_clone3];

const RAW: u64 = libc::SOCK_RAW as u64;
/// The part of a socket's type without its flags (`SOCK_TYPE_MASK` in the kernel's net.h).
const TYPE: u64 = 0xf;

/// The pidfd by which a process names itself (PIDFD_SELF in the kernel's pidfd.h), as 32 bits.
const SELF: u64 = 0xffff_d8f0;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A condition on one argument of a call: its index, the comparison, the value.
struct If(u8, Is, u64);

fn rule(conditions: &[If]) -> Result<SeccompRule, BackendError> {
    let condition = |If(argument, is, value): &If| {
        // Comparing the lower 32 bits is enough: only the flags of `clone` are a `long`, and they use none of its upper
        // bits.
        SeccompCondition::new(*argument, Length::Dword, is.clone(), *value)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

fn always<'n>(numbers: impl IntoIterator<Item = &'n [i64]>) -> Rules {
    numbers.into_iter().flatten().map(|number| (*number, Vec::new())).collect()
}

/// A non-negative number, as the kernel compares it.
fn number(of: i32) -> u64 {
    u64::from(of.unsigned_abs())
}

/// Calls that the gateway is refused. It may start threads, but no process.
fn of_gateway() -> Result<Rules, BackendError> {
    let mut rules = always([LOOKING, CHANGING, CHANGING_HERE, EXECUTING, FORKING]);
    let thread = number(libc::CLONE_THREAD);
    rules.insert(libc::SYS_clone, vec![rule(&[If(0, Is::MaskedEq(thread), 0)])?]);
    // Wasmtime uses it to release its own pages, many at once.
    rules.insert(libc::SYS_process_madvise, vec![rule(&[If(0, Is::Ne, SELF)])?]);
    let [unix, four, six, netlink] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(number);
    let families = vec![
        rule(&[If(0, Is::Ne, unix), If(0, Is::Ne, four), If(0, Is::Ne, six), If(0, Is::Ne, netlink)])?,
        rule(&[If(0, Is::Eq, four), If(1, Is::MaskedEq(TYPE), RAW)])?,
        rule(&[If(0, Is::Eq, six), If(1, Is::MaskedEq(TYPE), RAW)])?,
        // The resolver uses it to list the machine's addresses.
        rule(&[If(0, Is::Eq, netlink), If(2, Is::Ne, number(libc::NETLINK_ROUTE))])?,
    ];
    rules.insert(libc::SYS_socket, families);
    Ok(rules)
}

/// Calls that a compiling child may make.
fn of_child() -> Result<Rules, BackendError> {
    let mut rules = always([COMPUTING, CLONE_UNSEEN]);
    let thread = number(libc::CLONE_THREAD);
    rules.insert(libc::SYS_clone, vec![rule(&[If(0, Is::MaskedEq(thread), thread)])?]);
    // Threads set their names and ask for the sizes of their stacks.
    rules.insert(libc::SYS_prctl, vec![rule(&[If(0, Is::Eq, number(libc::PR_SET_NAME))])?]);
    rules.insert(libc::SYS_prlimit64, vec![rule(&[If(0, Is::Eq, 0), If(2, Is::Eq, 0)])?]);
    // `abort` sends a signal to the process itself.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule(&[If(0, Is::Eq, own)])?]);
    Ok(rules)
}

/// Adds the rules for x32, a second set of numbers by which some kernels take the same calls. A list of refused calls must
/// name both.
#[cfg(target_arch = "x86_64")]
fn by_either_number(rules: Rules) -> Rules {
    const X32: i64 = 0x4000_0000;
    /// Calls that have a separate number in x32.
    const OWN: [(i64, i64); 6] = [
        (libc::SYS_execve, 520),
        (libc::SYS_ptrace, 521),
        (libc::SYS_kexec_load, 528),
        (libc::SYS_process_vm_readv, 539),
        (libc::SYS_process_vm_writev, 540),
        (libc::SYS_execveat, 545),
    ];
    let other = |number: i64| OWN.iter().find(|(of, _)| *of == number).map_or(number, |(_, own)| *own) | X32;
    let others: Rules = rules.iter().map(|(number, rule)| (other(*number), rule.clone())).collect();
    rules.into_iter().chain(others).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn by_either_number(rules: Rules) -> Rules {
    rules
}

fn filter(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, String> {
    let made = || {
        let machine = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(rules, others, these, machine)?.try_into()
    };
    made().map_err(|error: BackendError| error.to_string())
}

fn error(of: i32) -> SeccompAction {
    SeccompAction::Errno(of.unsigned_abs())
}

fn refuse(rules: Rules, by: i32) -> Result<BpfProgram, String> {
    filter(by_either_number(rules), SeccompAction::Allow, error(by))
}

fn apply(program: &BpfProgram) -> Result<(), String> {
    seccompiler::apply_filter(program).map_err(|error| error.to_string())
}

pub(super) fn gateway() -> Result<(), String> {
    apply(&refuse(always([CLONE_UNSEEN]), libc::ENOSYS)?)?;
    apply(&refuse(of_gateway().map_err(|error| error.to_string())?, libc::EPERM)?)
}

/// Applies to all threads: many exist by then.
pub(super) fn started() -> Result<(), String> {
    let program = refuse(always([&[libc::SYS_listen][..]]), libc::EPERM)?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

pub(super) fn helper() -> Result<(), String> {
    apply(&refuse(always([LOOKING, CHANGING, CHANGING_HERE, NETWORKING]), libc::EPERM)?)
}

pub(super) fn child() -> Result<(), String> {
    // This filter comes first, because the other one forbids new filters.
    apply(&refuse(always([CLONE_UNSEEN]), libc::ENOSYS)?)?;
    let rules = of_child().map_err(|error| error.to_string())?;
    apply(&filter(rules, error(libc::EPERM), SeccompAction::Allow)?)
}
