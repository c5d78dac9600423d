"""Confines this process, then executes a program: `python -I -S sandbox_exec.py [options] -- program ...`.

It is a separate script with few imports, because it runs before every ffmpeg and ffprobe. All restrictions
are inherited through execve and cannot be lifted: death with the parent, no new privileges, resource limits,
Landlock (which files may be opened) and a seccomp filter (no network, no new processes).

Numbers are those of Linux's uapi headers: landlock.h, seccomp.h, filter.h, prctl.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
import sys

SIGKILL = 9  # importing the module signal takes longer than this whole file
EXIT_CODE = 125  # the program could not be confined and was not started

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
RULESET_VERSION, RULE_PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 5
MAKE_DIR, MAKE_REG, TRUNCATE, IOCTL_DEV = 1 << 7, 1 << 8, 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
TCP_BIND_AND_CONNECT, ABSTRACT_SOCKETS_AND_SIGNALS = 0b11, 0b11

ACCESS = {
    "--run": EXECUTE | READ_FILE | READ_DIR,
    "--read": READ_FILE | READ_DIR,
    "--write": READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | MAKE_REG | MAKE_DIR | REMOVE_FILE,
    "--device": READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV,
    "--own": READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE,  # files of this process under /proc
}
LIMITS = {
    "--cpu-seconds": resource.RLIMIT_CPU,
    "--file-bytes": resource.RLIMIT_FSIZE,
    "--address-bytes": resource.RLIMIT_AS,
    "--data-bytes": resource.RLIMIT_DATA,
    "--open-files": resource.RLIMIT_NOFILE,
    "--core-bytes": resource.RLIMIT_CORE,
}

# machine: its AUDIT_ARCH, then the numbers of socket, clone and of the calls that are always refused:
# ptrace, process_vm_readv and _writev, io_uring_setup (which opens sockets past a filter), fork, vfork.
SYSCALLS = {
    "x86_64": (0xC000003E, 41, 56, (101, 310, 311, 425, 57, 58)),
    "aarch64": (0xC00000B7, 198, 220, (117, 270, 271, 425)),
}
CLONE3, CLONE_THREAD, X32_BIT = 435, 0x10000, 0x40000000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
AT_NUMBER, AT_ARCH, AT_FIRST_ARGUMENT = 0, 4, 16
ALLOW, KILL, REFUSE, UNKNOWN = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class NotConfined(Exception):
    """A protection that the kernel supports could not be set up."""


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise NotConfined(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _prctl(option: int, first: int, what: str) -> None:
    _checked(libc.prctl(option, ctypes.c_ulong(first), *[ctypes.c_ulong(0)] * 3), what)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies. Raises NotConfined if it already has."""
    _prctl(PR_SET_PDEATHSIG, SIGKILL, "pdeathsig")
    if os.getppid() != parent:
        raise NotConfined("pdeathsig: the parent has died")


def landlock_abi() -> int:
    """Return the kernel's Landlock version; 0 for none."""
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(RULESET_VERSION))
    return max(0, int(version))


def handled_access(abi: int) -> int:
    """Return every file right that version `abi` can restrict."""
    return (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1


def ruleset(abi: int) -> bytes:
    """Return `struct landlock_ruleset_attr` for version `abi`, which denies everything it can."""
    fields = [handled_access(abi)]
    if abi >= 4:
        fields.append(TCP_BIND_AND_CONNECT)
    if abi >= 6:
        fields.append(ABSTRACT_SOCKETS_AND_SIGNALS)
    return struct.pack(f"={len(fields)}Q", *fields)


def restrict_files(rules: list[tuple[str, str]], abi: int) -> None:
    """Allow only the paths of `rules` (option, path); missing paths are skipped."""
    attributes = ruleset(abi)
    rules_fd = _checked(
        libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)),
        "landlock_create_ruleset",
    )
    for option, path in rules:
        _add_rule(rules_fd, path, ACCESS[option] & handled_access(abi))
    _checked(libc.syscall(RESTRICT_SELF, rules_fd, ctypes.c_uint32(0)), "landlock_restrict_self")
    os.close(rules_fd)


def _add_rule(rules_fd: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):  # noqa: PTH112 - importing pathlib is too slow
        access &= OF_FILES
    beneath = struct.pack("=Qi", access, place)
    _checked(
        libc.syscall(ADD_RULE, rules_fd, RULE_PATH_BENEATH, beneath, ctypes.c_uint32(0)), f"landlock: {path}"
    )
    os.close(place)


def network_filter(machine: str) -> bytes:
    """Return the seccomp program: sockets of AF_UNIX only, threads but no processes, no foreign ABI."""
    arch, socket, clone, refused = SYSCALLS[machine]
    program = [
        (LOAD, 0, 0, AT_ARCH),
        (EQUAL, 1, 0, arch),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, AT_NUMBER),
        *[(AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, REFUSE)],
        *[
            (EQUAL, 0, 1, CLONE3),
            (RETURN, 0, 0, UNKNOWN),
        ],  # libc falls back to clone, whose flags are readable
    ]
    for number in refused:
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    program += [
        *[(EQUAL, 0, 3, socket), (LOAD, 0, 0, AT_FIRST_ARGUMENT), (EQUAL, 4, 0, 1), (RETURN, 0, 0, REFUSE)],
        *[(EQUAL, 0, 2, clone), (LOAD, 0, 0, AT_FIRST_ARGUMENT), (ANY_BIT, 0, 1, CLONE_THREAD)],
        *[(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)],
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in program)


def deny_network(machine: str) -> None:
    """Install the filter for `machine` in this process."""
    program = network_filter(machine)
    steps = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
    place = ctypes.create_string_buffer(pointer, len(pointer))
    _checked(
        libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.c_ulong(ctypes.addressof(place)), 0, 0),
        "seccomp",
    )


def limit(option: str, value: int) -> None:
    """Lower a resource limit, soft and hard, to at most `value`."""
    kind = LIMITS[option]
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def confine(options: list[tuple[str, str]]) -> dict[str, int]:
    """Apply `options` to this process and return what is active by name (Landlock: its version)."""
    by_name = dict(options)
    die_with_parent(int(by_name["--parent"]))
    _prctl(PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")
    active = {"pdeathsig": 1, "no_new_privs": 1, "rlimits": 0, "landlock": 0, "network": 0}
    for option, value in options:
        if option in LIMITS:
            limit(option, int(value))
            active["rlimits"] = 1
    mode, machine = by_name["--mode"], os.uname().machine
    if mode == "off":
        return active
    active["landlock"] = abi = landlock_abi()
    if abi:
        restrict_files([pair for pair in options if pair[0] in ACCESS], abi)
    elif mode == "required":
        raise NotConfined("landlock: this kernel does not have it")
    if machine in SYSCALLS:
        deny_network(machine)
        active["network"] = 1
    elif mode == "required" and abi < 4:
        raise NotConfined(f"network: no filter is known for {machine}")
    else:
        active["network"] = int(abi >= 4)
    return active


def main(arguments: list[str]) -> int:
    """Confine and execute; without a program print active protections, one `name value` per line."""
    end = arguments.index("--")
    options = list(zip(arguments[:end:2], arguments[1:end:2], strict=True))
    program = arguments[end + 1 :]
    try:
        active = confine(options)
        if program:
            os.execv(dict(options)["--program"], program)  # noqa: S606 - there is no shell
    except (NotConfined, OSError, ValueError) as error:
        sys.stderr.write(f"not started: {error}\n")
        return EXIT_CODE
    sys.stdout.write("".join(f"{name} {value}\n" for name, value in active.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
