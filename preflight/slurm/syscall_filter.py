"""Which system calls a confined script may not make, as a seccomp filter: network, signals, and what Landlock leaves open.

Numbers are those of Linux 6.17 (arch/x86/entry/syscalls/syscall_64.tbl and scripts/syscall.tbl).
A call that is newer than this list is answered like one that the kernel does not have.
"""

from __future__ import annotations

import errno
import platform
import struct

NEWEST = 470
"""The last call that was looked at when this list was written (listns, Linux 6.18)."""

_SAME_EVERYWHERE = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "openat2": 437,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_setattr": 469,
}
_OF_X86_64 = (
    # Sockets of every family: TCP, UDP, raw, and those of docker, munge or an agent.
    "socket:41 connect:42 accept:43 sendto:44 recvfrom:45 sendmsg:46 recvmsg:47 bind:49 listen:50"
    " socketpair:53 accept4:288 recvmmsg:299 sendmmsg:307"
    # Signals and other processes; with no group of its own, nobody escapes the one that is killed.
    " kill:62 tkill:200 tgkill:234 rt_sigqueueinfo:129 rt_tgsigqueueinfo:297 setpgid:109 setsid:112"
    " ptrace:101 process_vm_readv:310 process_vm_writev:311 kcmp:312 setpriority:141"
    " sched_setparam:142 sched_setscheduler:144 sched_setaffinity:203 sched_setattr:314"
    " ioprio_set:251 migrate_pages:256 move_pages:279"
    # What of a file may be changed without opening it.
    " chmod:90 fchmod:91 fchmodat:268 chown:92 fchown:93 lchown:94 fchownat:260 utime:132 utimes:235"
    " futimesat:261 utimensat:280 setxattr:188 lsetxattr:189 fsetxattr:190 removexattr:197"
    " lremovexattr:198 fremovexattr:199 truncate:76"
    # The machine.
    " mount:165 umount2:166 pivot_root:155 chroot:161 swapon:167 swapoff:168 reboot:169"
    " sethostname:170 setdomainname:171 iopl:172 ioperm:173 init_module:175 delete_module:176"
    " finit_module:313 kexec_load:246 kexec_file_load:320 quotactl:179 acct:163 settimeofday:164"
    " clock_settime:227 clock_adjtime:305 adjtimex:159 syslog:103 vhangup:153 unshare:272 setns:308"
    " name_to_handle_at:303 open_by_handle_at:304 userfaultfd:323 bpf:321 perf_event_open:298"
    " keyctl:250 add_key:248 request_key:249 io_setup:206 lookup_dcookie:212 nfsservctl:180"
    " fanotify_init:300"
    # Memory that others see, and programs that have no path to forbid.
    " shmget:29 shmat:30 shmctl:31 semget:64 semop:65 semctl:66 semtimedop:220 msgget:68 msgsnd:69"
    " msgrcv:70 msgctl:71 mq_open:240 mq_unlink:241 memfd_create:319 execveat:322"
)
_OF_AARCH64 = (
    "socket:198 socketpair:199 bind:200 listen:201 accept:202 connect:203 sendto:206 recvfrom:207"
    " sendmsg:211 recvmsg:212 accept4:242 recvmmsg:243 sendmmsg:269"
    " kill:129 tkill:130 tgkill:131 rt_sigqueueinfo:138 rt_tgsigqueueinfo:240 setpgid:154 setsid:157"
    " ptrace:117 process_vm_readv:270 process_vm_writev:271 kcmp:272 setpriority:140"
    " sched_setparam:118 sched_setscheduler:119 sched_setaffinity:122 sched_setattr:274"
    " ioprio_set:30 migrate_pages:238 move_pages:239"
    " fchmod:52 fchmodat:53 fchownat:54 fchown:55 utimensat:88 setxattr:5 lsetxattr:6 fsetxattr:7"
    " removexattr:14 lremovexattr:15 fremovexattr:16 truncate:45"
    " mount:40 umount2:39 pivot_root:41 chroot:51 swapon:224 swapoff:225 reboot:142 sethostname:161"
    " setdomainname:162 init_module:105 delete_module:106 finit_module:273 kexec_load:104"
    " kexec_file_load:294 quotactl:60 acct:89 settimeofday:170 clock_settime:112 clock_adjtime:266"
    " adjtimex:171 syslog:116 vhangup:58 unshare:97 setns:268 name_to_handle_at:264"
    " open_by_handle_at:265 userfaultfd:282 bpf:280 perf_event_open:241 keyctl:219 add_key:217"
    " request_key:218 io_setup:0 lookup_dcookie:18 nfsservctl:42 fanotify_init:262"
    " shmget:194 shmctl:195 shmat:196 semget:190 semctl:191 semtimedop:192 semop:193 msgget:186"
    " msgctl:187 msgrcv:188 msgsnd:189 mq_open:180 mq_unlink:181 memfd_create:279 execveat:281"
)

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 of <linux/audit.h>."""
_LOOKED_INTO = {
    "x86_64": {"open": 2, "ioctl": 16, "clone": 56, "openat": 257, "prlimit64": 302},
    "aarch64": {"ioctl": 29, "openat": 56, "clone": 220, "prlimit64": 261},
}
"""Calls that are allowed with some arguments only."""
_CLONE3 = 435

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
"""BPF: LD|W|ABS, JMP|JEQ|K, JMP|JGT|K, JMP|JSET|K, ALU|AND|K, RET|K of <linux/bpf_common.h>."""
_NUMBER, _ARCH = 0, 4
"""Offsets in struct seccomp_data."""
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of <linux/sched.h>."""
_O_ACCMODE_O_TRUNC, _O_TRUNC = 0o1003, 0o1000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


class NoFilter(Exception):
    """This machine is none whose system calls are known here."""


def filter_program(machine: str = "") -> bytes:
    """Return the filter as an array of struct sock_filter; raise NoFilter for an unknown machine."""
    machine = machine or platform.machine()
    if machine not in _AUDIT_ARCH:
        raise NoFilter(f"the system calls of {machine} are not known")
    denied = dict(_SAME_EVERYWHERE)
    for item in (_OF_X86_64 if machine == "x86_64" else _OF_AARCH64).split():
        call, _, digits = item.partition(":")
        denied[call] = int(digits)
    program = [
        _step(_LOAD, _ARCH),
        _step(_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_GREATER, NEWEST, 0, 1),  # x32's numbers too
        _step(_RETURN, _ERRNO | errno.ENOSYS),
        _step(_EQUAL, _CLONE3, 0, 1),  # its flags lie in memory; libc falls back to clone
        _step(_RETURN, _ERRNO | errno.ENOSYS),
    ]
    for number in sorted(denied.values()):
        program += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERRNO | errno.EPERM)]
    for name, number in _LOOKED_INTO[machine].items():
        body = _looked_into(name)
        program += [_step(_EQUAL, number, 0, len(body)), *body]
    program.append(_step(_RETURN, _ALLOW))
    return b"".join(program)


def _looked_into(name: str) -> list[bytes]:
    """Return the steps for one call whose arguments decide; each ends by returning."""
    deny, allow = _step(_RETURN, _ERRNO | errno.EPERM), _step(_RETURN, _ALLOW)
    if name in ("open", "openat"):
        # O_RDONLY|O_TRUNC empties a file, and Landlock before Linux 6.2 does not see it.
        flags = 1 if name == "open" else 2
        return [
            _step(_LOAD, _argument(flags)),
            _step(_AND, _O_ACCMODE_O_TRUNC),
            _step(_EQUAL, _O_TRUNC, 0, 1),
            deny,
            allow,
        ]
    if name == "clone":
        return [_step(_LOAD, _argument(0)), _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1), deny, allow]
    if name == "prlimit64":  # of itself only
        return [_step(_LOAD, _argument(0)), _step(_EQUAL, 0, 1, 0), deny, allow]
    return [  # ioctl: no typing into a terminal
        _step(_LOAD, _argument(1)),
        _step(_EQUAL, _TIOCSTI, 1, 0),
        _step(_EQUAL, _TIOCLINUX, 0, 1),
        deny,
        allow,
    ]


def _argument(index: int) -> int:
    """Return the offset of an argument's lower half: both machines are little-endian."""
    return 16 + 8 * index


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
