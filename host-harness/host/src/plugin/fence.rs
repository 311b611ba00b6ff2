//! A fence around the compiler's process: it allows the system calls that compiling needs, and no others. An attacker
//! who takes over the compiler with a plugin that it mistranslates reaches no files, no network and no other processes.

use std::io;

/// Sets up the fence, for all threads of this process, for good. A call beyond it fails with `EPERM`. C libraries ask
/// for things that they can do without, such as the number of processors, and an honest plugin must compile with each
/// library.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn put_up() -> io::Result<()> {
    seccompiler::apply_filter_all_threads(&linux::filter()?).map_err(io::Error::other)
}

/// Does nothing: this system has no such fence.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) fn put_up() -> io::Result<()> {
    Ok(())
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod linux {
    use std::collections::BTreeMap;
    use std::io;

    use seccompiler::SeccompCmpArgLen::Dword;
    use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
    use seccompiler::{BpfProgram, SeccompAction, SeccompCondition as Condition, SeccompFilter, SeccompRule};

    /// Calls that are allowed with any arguments. They exclude calls that open, make or name anything, and calls that
    /// start threads: the compiler's threads run before the fence is set up.
    const ALLOWED: &[libc::c_long] = &[
        // The plugin and its code go through files that are already open.
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        // Memory; `mmap` and `mprotect` below.
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_mremap,
        libc::SYS_munmap,
        // Threads wait for each other.
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        // Hash tables are seeded.
        libc::SYS_getrandom,
        // A thread or the process ends, normally, by a panic or by a stack overflow; `tgkill` below.
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
    ];

    pub fn filter() -> io::Result<BpfProgram> {
        let filter = || -> Result<BpfProgram, seccompiler::BackendError> {
            let not_executable = || Condition::new(2, Dword, MaskedEq(libc::PROT_EXEC as u64), 0);
            let of_no_file = Condition::new(3, Dword, MaskedEq(libc::MAP_ANONYMOUS as u64), libc::MAP_ANONYMOUS as u64);
            // A process that aborts sends itself a signal.
            let to_itself = Condition::new(0, Dword, Eq, std::process::id().into());
            let bounded = [
                (libc::SYS_mmap, vec![not_executable()?, of_no_file?]),
                (libc::SYS_mprotect, vec![not_executable()?]),
                (libc::SYS_tgkill, vec![to_itself?]),
            ];
            let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
            for (call, conditions) in bounded {
                rules.insert(call, vec![SeccompRule::new(conditions)?]);
            }
            let otherwise = SeccompAction::Errno(libc::EPERM as u32);
            let machine = std::env::consts::ARCH.try_into()?;
            SeccompFilter::new(rules, otherwise, SeccompAction::Allow, machine)?.try_into()
        };
        filter().map_err(io::Error::other)
    }

    #[cfg(test)]
    mod tests {
        use std::fs::{self, File};
        use std::net::{TcpListener, UdpSocket};
        use std::os::unix::net::UnixDatagram;
        use std::process::Command;
        use std::thread;

        use super::*;

        type Try = (&'static str, fn() -> io::Result<()>);

        /// Maps a page with some rights, then changes its rights.
        fn map(rights: libc::c_int, then: libc::c_int) -> io::Result<()> {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            #[expect(unsafe_code, reason = "the page is the test's own, and nothing is in it")]
            unsafe {
                let page = libc::mmap(std::ptr::null_mut(), 4096, rights, flags, -1, 0);
                if page == libc::MAP_FAILED || libc::mprotect(page, 4096, then) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        }

        const REFUSED: &[Try] = &[
            ("a file is read", || File::open("/etc/hosts").map(drop)),
            ("a file is made", || File::create(std::env::temp_dir().join("beyond-the-fence")).map(drop)),
            ("a file is removed", || fs::remove_file("/no/such/file")),
            ("a folder is listed", || fs::read_dir("/").map(drop)),
            ("a file is looked for", || fs::metadata("/etc").map(drop)),
            ("a connection", || std::net::TcpStream::connect("127.0.0.1:9").map(drop)),
            ("a listener", || TcpListener::bind("127.0.0.1:0").map(drop)),
            ("a datagram", || UdpSocket::bind("127.0.0.1:0").map(drop)),
            ("a local socket", || UnixDatagram::unbound().map(drop)),
            ("a program is started", || Command::new("/bin/true").spawn().map(drop)),
            ("a thread is started", || thread::Builder::new().spawn(|| {}).map(drop)),
            ("a signal", || Ok(rustix::process::test_kill_process(rustix::process::getpid())?)),
            ("another folder", || std::env::set_current_dir("/")),
            ("code is mapped", || map(libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ)),
            ("data becomes code", || map(libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC)),
        ];

        const TAKEN: &[Try] = &[
            ("memory is mapped", || map(libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE)),
            ("much memory", || {
                drop(vec![1_u8; 64 << 20]);
                Ok(())
            }),
        ];

        #[test]
        fn beyond_the_fence_nothing_is_reached() {
            let tried =
                |list: &'static [Try]| list.iter().map(|(what, attempt)| (*what, attempt().map_err(|e| e.kind())));
            let fenced = thread::spawn(move || {
                // The filter applies to one thread only, because the other threads run other tests.
                seccompiler::apply_filter(&filter().unwrap()).unwrap();
                (tried(REFUSED).collect::<Vec<_>>(), tried(TAKEN).collect::<Vec<_>>())
            });
            let (refused, taken) = fenced.join().unwrap();
            for (what, answer) in refused {
                assert_eq!(answer, Err(io::ErrorKind::PermissionDenied), "{what}");
            }
            for (what, answer) in taken {
                assert_eq!(answer, Ok(()), "{what}");
            }
        }
    }
}
